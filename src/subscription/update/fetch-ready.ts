/** Fetches a source, and the paths that a rebuild of it without a network would lack. */
import { failureOf, type Failure } from '../../failure.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { MissingPath } from '../../fetch/walk/closure.ts';
import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import type { StorePath } from '../../nix/brands.ts';
import { archiveFlake } from '../../nix/flake-inputs.ts';
import { realise } from '../../nix/programs/realise.ts';
import { assess, type LackingOffer, type Obtain, type RebuildTarget } from '../../ready/assess.ts';
import type { FileStore } from '../../store/file-store.ts';
import { lackOf, type FetchedResolution } from '../fetch-resolution.ts';
import type { Note } from '../state/note.ts';
import type { Resolution } from '../source/resolve-source.ts';
import type { Source } from '../source/source.ts';

interface ReadyContext {
  readonly files: FileStore;
  /** Fetches paths into the default Nix store as far as possible; for a dry run, only plans it. */
  readonly fetch: (roots: readonly StorePath[]) => Promise<PrefetchResult>;
  readonly withSources: boolean;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
}

/**
 * Fetches the roots of a source, then the paths that {@link assess} finds missing. Lets Nix download flake inputs and
 * fixed outputs that no cache has. At the end, fetches all inputs of the builds again, so that they belong to the
 * generation and have GC roots.
 *
 * @throws as {@link assess}
 */
export async function fetchReady(
  source: Source,
  resolution: Resolution,
  { files, fetch, withSources, dryRun, signal }: ReadyContext,
): Promise<FetchedResolution> {
  const parts: PrefetchResult[] = [];
  const fetchPart = async (roots: readonly StorePath[]): Promise<PrefetchResult> => {
    const part = await fetch(roots);
    parts.push(part);
    return part;
  };
  const outputs = await fetchPart(resolution.roots);
  const failures = new Map<string, Failure>();
  const target = targetOf(source, resolution.main);
  const { lacking, underived, needed } =
    target === undefined
      ? { lacking: [], underived: [], needed: new Set<StorePath>() }
      : await assess([target], {
          files,
          countsStored: false,
          withSources,
          fetch: fetchPart,
          obtain: dryRun ? undefined : obtainBy(fetchPart, failures, signal),
          signal,
        });
  if (!dryRun && needed.size > 0)
    await fetchPart([...needed].filter((path) => !lacking.some((one) => one.path === path)));
  const isUnknown = target === undefined || underived.length > 0;
  const roots = new Set<string>(resolution.roots);
  const built = isUnknown ? [] : outputs.missing.filter(({ path, isNowhere }) => isNowhere && roots.has(path));
  const absent = dryRun ? [] : lacking.map((one) => missingOf(one, parts, failures));
  const notes: Note[] = [
    ...resolution.notes,
    ...(built.length > 0 ? [{ kind: 'inputs-instead' as const, paths: built.map(({ path }) => path) }] : []),
    ...(isUnknown ? [{ kind: 'unknown-builds' as const, path: underived[0] ?? resolution.main ?? '' }] : []),
  ];
  const main = outputs.roots.find((path) => path === resolution.main);
  const failed = outputs.missing.filter((missing) => !built.includes(missing));
  return { main, ...lackOf([...failed, ...absent], parts), notes, leftOut: [] };
}

/** Returns the installable or path to rebuild. Undefined for lists, and for links that are no profiles. */
function targetOf(source: Source, main: StorePath | undefined): RebuildTarget | undefined {
  if (source.kind === 'installable' || source.kind === 'attribute') return source;
  const path = source.kind === 'store-path' ? source.path : main;
  return path === undefined ? undefined : { kind: 'store-path', path };
}

function obtainBy(fetch: ReadyContext['fetch'], failures: Map<string, Failure>, signal: AbortSignal): Obtain {
  return {
    async flakeInputs(flake, absent) {
      const { missing } = await fetch(absent);
      if (missing.length > 0) await archiveFlake(flake, { signal });
    },
    async source(path, drvPath) {
      try {
        await realise(drvPath, { signal });
      } catch (error) {
        if (!isNarswarmError(error, 'NIX_FAILED')) throw error;
        failures.set(path, failureOf(error));
      }
    },
  };
}

/** Returns the reason why a path is still missing: from Nix, or from the last fetch that wanted it. */
function missingOf(
  { path, offer }: LackingOffer,
  parts: readonly PrefetchResult[],
  failures: ReadonlyMap<string, Failure>,
): MissingPath {
  const nix = failures.get(path);
  if (nix !== undefined) return { path, ...nix, isNowhere: false };
  const known = parts.flatMap(({ missing }) => missing).findLast((missing) => missing.path === path);
  if (known !== undefined) return known;
  const why = 'its closure is not complete';
  const error = new NarswarmError('NAR_UNAVAILABLE', `cannot fetch ${path}: ${why}`, { facts: { path, why } });
  return { path, ...failureOf(error), isNowhere: offer === 'nowhere' };
}
