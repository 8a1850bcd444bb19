import { setTimeout as sleep } from 'node:timers/promises';
import type { StorePath } from '../nix/brands.ts';
import { queryBuiltHere, queryInvalidPaths, queryRegistrations } from '../nix/programs/nix-queries.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import type { Resolution } from '../subscription/source/resolve-source.ts';

const LOOK_EVERY_MS = 500;
/** Time without a new path after which a person is told, in milliseconds: the build may have failed. */
const SILENCE_MS = 5 * 60_000;

export interface WatchOptions {
  readonly signal: AbortSignal;
  /** Called at the beginning if the roots are not built yet, and after each `silenceMs` in which nothing was built. */
  readonly onWaiting: (waiting: Waiting) => void;
  /** Default: five minutes. */
  readonly silenceMs?: number;
}

export interface Waiting {
  /** Number of outputs that are not valid. */
  readonly paths: number;
  /** Time in which nothing was built, in milliseconds; 0 at the beginning. */
  readonly silentMs: number;
}

/** The outputs that a build makes: the wanted ones, and those of its inputs, layer after layer. */
export type Build = Pick<Resolution, 'roots' | 'buildInputs' | 'buildInputsOf'>;

/**
 * Yields closures while a build makes them, references first: those of the outputs that this machine builds itself, and at
 * last those of the roots. Outputs that Nix downloads for the build come only with a path that refers to them, since the tools of a
 * build are mostly not wanted.
 *
 * @throws NIX_FAILED, NIX_MISSING; the signal's reason. It waits for the roots as long as that takes
 */
export async function* watchBuilds(
  builds: readonly Build[],
  { signal, onWaiting, silenceMs = SILENCE_MS }: WatchOptions,
): AsyncGenerator<readonly ValidPath[], void> {
  let lastMs: number | undefined; // when something was built, or the watch began
  let toldMs = 0;
  const roots = builds.flatMap((build) => build.roots);
  let waiting = await inputsOf(builds, signal);
  for (;;) {
    const invalid = await queryInvalidPaths([...new Set([...waiting, ...roots])], undefined, { signal });
    const fresh = [...waiting].filter((path) => !invalid.has(path));
    waiting = new Set([...waiting].filter((path) => invalid.has(path)));
    if (roots.every((path) => !invalid.has(path))) break;
    const nowMs = performance.now();
    const isFirst = lastMs === undefined;
    if (lastMs === undefined || fresh.length > 0) lastMs = toldMs = nowMs;
    if (isFirst || nowMs - toldMs >= silenceMs) {
      onWaiting({ paths: invalid.size, silentMs: nowMs - lastMs });
      toldMs = nowMs;
    }
    const built = fresh.length === 0 ? new Set<StorePath>() : await queryBuiltHere(fresh, { signal });
    if (built.size > 0) yield await queryRegistrations([...built], { signal });
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  yield await queryRegistrations(roots, { signal });
}

/** Returns the outputs that the build makes, and their inputs, whether valid or not. */
async function inputsOf(builds: readonly Build[], signal: AbortSignal): Promise<Set<StorePath>> {
  const found = new Set<StorePath>();
  for (const { roots, buildInputs, buildInputsOf } of builds) {
    const [root] = await queryInvalidPaths(roots, undefined, { signal });
    let layer = root === undefined ? [] : buildInputs;
    while (layer.length > 0) {
      const fresh = [...new Set(layer)].filter((path) => !found.has(path));
      for (const path of fresh) found.add(path);
      const invalid = await queryInvalidPaths(fresh, undefined, { signal });
      layer = (await Promise.all([...invalid].map(buildInputsOf))).flat();
    }
  }
  return found;
}
