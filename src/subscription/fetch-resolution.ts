/** Fetches the paths of a source as far as possible, and the inputs of a build for those that no cache has. */
import { NarswarmError, type ErrorCode } from '../errors.ts';
import { failureOf } from '../failure.ts';
import type { MissingPath } from '../fetch/walk/closure.ts';
import type { PrefetchResult } from '../fetch/prefetch-result.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { lackError, type Lack } from './state/missing.ts';
import { leftOutNote, type Note } from './state/note.ts';
import type { Resolution } from './source/resolve-source.ts';

/** The result of a fetch. */
export interface FetchedResolution {
  /** The path that the source stands for, if it is held. */
  readonly main: StorePath | undefined;
  /** The reason why a required path is missing. Undefined if none is. */
  readonly error: NarswarmError | undefined;
  /** The missing paths, if they are the error. */
  readonly lack?: Lack | undefined;
  readonly notes: readonly Note[];
  /** Paths that no cache has, if that is not a failure. Each once. */
  readonly leftOut: readonly string[];
}

/** Limit on layers of build inputs. Those of a NixOS system are about ten deep. */
const MAX_LAYERS = 64;

/**
 * Fetches the roots of a source. For outputs that no cache has, fetches the inputs of their build instead.
 *
 * @param fetch fetches roots as far as possible (`keepGoing`)
 */
export async function fetchResolution(
  resolution: Resolution,
  fetch: (roots: readonly StorePath[]) => Promise<PrefetchResult>,
): Promise<FetchedResolution> {
  const parts: PrefetchResult[] = [];
  const fetchPart = async (roots: readonly StorePath[]): Promise<PrefetchResult> => {
    const part = await fetch(roots);
    parts.push(part);
    return part;
  };
  const part = await fetchPart([...new Set([...resolution.roots, ...resolution.sources])]);
  const isOptional = optionalPaths(resolution);
  const needed = part.missing.filter(({ path, isNowhere }) => !isNowhere || !isOptional(path));
  // A list may lack some paths, but not all.
  const lack = needed.length === 0 && part.closure.size === 0 ? part.missing : needed;
  const main = part.roots.find((path) => path === resolution.main);
  const { notes } = resolution;
  const roots = new Set<string>(resolution.roots);
  const isReplaceable = lack.length > 0 && lack.every(({ path, isNowhere }) => isNowhere && roots.has(path));
  if (!isReplaceable || resolution.buildInputs.length === 0) {
    return { main, ...lackOf(lack, parts), ...withLeftOut(notes, part.missing, lack, resolution) };
  }
  const inputs = await fetchBuildInputs(resolution, fetchPart);
  const isNothing = parts.every(({ closure }) => closure.size === 0);
  const missing = isNothing ? [...lack, ...inputs] : inputs.filter(({ isNowhere }) => !isNowhere);
  const replaced: Note = { kind: 'inputs-instead', paths: lack.map(({ path }) => path) };
  const optional = part.missing.filter((path) => !lack.includes(path));
  return {
    main,
    ...lackOf(missing, parts),
    ...withLeftOut([...notes, replaced], [...optional, ...inputs], missing, resolution),
  };
}

/**
 * Adds a note about paths that were left out.
 *
 * @param absent paths that could not be fetched
 * @param missing the paths among them whose absence is a failure; the others were left out
 */
function withLeftOut(
  notes: readonly Note[],
  absent: readonly MissingPath[],
  missing: readonly MissingPath[],
  { roots, lackNote }: Resolution,
): Pick<FetchedResolution, 'notes' | 'leftOut'> {
  const failed = new Set(missing.map(({ path }) => path));
  const leftOut = [...new Set(absent.map(({ path }) => path))].filter((path) => !failed.has(path));
  if (leftOut.length === 0) return { notes, leftOut };
  const usual = new Set<string>(lackNote === undefined ? [] : roots);
  const told = leftOutNote(
    leftOut,
    leftOut.every((path) => usual.has(path)),
  );
  return { notes: [...notes, ...(lackNote === undefined ? [] : [lackNote]), told], leftOut };
}

/** Returns true if caches may lack a root: sources may be absent, and so may any path of lists and profiles. */
function optionalPaths({ mayLack, roots, sources }: Resolution): (path: string) => boolean {
  const optional = new Set<string>(mayLack ? [...roots, ...sources] : sources);
  return (path) => optional.has(path);
}

/**
 * Fetches build inputs. Replaces inputs that no cache has by their own inputs, until all are in a cache.
 *
 * @returns the inputs that could not be fetched or replaced
 */
async function fetchBuildInputs(
  { buildInputs, buildInputsOf }: Resolution,
  fetch: (paths: readonly StorePath[]) => Promise<PrefetchResult>,
): Promise<MissingPath[]> {
  const missing: MissingPath[] = [];
  const seen = new Set<StorePath>(buildInputs);
  let layer: readonly StorePath[] = buildInputs;
  for (let depth = 0; layer.length > 0 && depth < MAX_LAYERS; depth++) {
    const part = await fetch(layer);
    const next = new Set<StorePath>();
    for (const lack of part.missing) {
      const inputs = lack.isNowhere && lack.path.startsWith('/') ? await buildInputsOf(parseStorePath(lack.path)) : [];
      if (inputs.length === 0) missing.push(lack);
      for (const path of inputs) if (!seen.has(path)) next.add(path);
    }
    for (const path of next) seen.add(path);
    layer = [...next];
  }
  for (const path of layer) missing.push({ path, ...failureOf(tooDeep(path)), isNowhere: false });
  return missing;
}

function tooDeep(path: StorePath): NarswarmError {
  const why = `its inputs are more than ${MAX_LAYERS} layers deep`;
  return new NarswarmError('NAR_UNAVAILABLE', `cannot fetch the build inputs of ${path}: ${why}`, {
    facts: { path, why },
  });
}

/** Makes the error of a run that left paths out. */
export function lackOf(
  missing: readonly MissingPath[],
  parts: readonly PrefetchResult[],
): Pick<FetchedResolution, 'error' | 'lack'> {
  const [first] = missing;
  if (first === undefined) return { error: parts.find((part) => part.importFailure !== undefined)?.importFailure };
  const isInterrupted = parts.some((part) => part.isInterrupted);
  const code = isInterrupted ? 'INTERRUPTED' : (commonCode(missing) ?? codeWithout(first));
  const { isNowhere: _told, ...kept } = first;
  const lack = { first: kept, count: missing.length };
  return { error: lackError(code, lack), lack };
}

/** Returns the code of the first path if all paths are missing for failures of one class. Otherwise undefined. */
function commonCode(missing: readonly MissingPath[]): ErrorCode | undefined {
  const codes = [...new Set(missing.map(codeOf))];
  const statuses = new Set(codes.map((code) => new NarswarmError(code, code).exitStatus));
  return statuses.size === 1 ? codes[0] : undefined;
}

function codeOf(missing: MissingPath): ErrorCode {
  const { code } = missing;
  return code === undefined || code === 'INTERRUPTED' ? codeWithout(missing) : code;
}

function codeWithout({ isNowhere }: MissingPath): ErrorCode {
  return isNowhere ? 'NARINFO_MISSING' : 'NAR_UNAVAILABLE';
}
