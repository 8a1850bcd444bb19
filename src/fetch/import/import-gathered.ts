import { isNarswarmError, type ErrorCode } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { pathsOf, topsOf, type Closure } from '../walk/closure.ts';
import type { EarlyImport } from './early-import.ts';
import type { FetchNarsContext } from '../download/fetch-nars.ts';
import type { Gathered } from '../gathered.ts';
import { importNoted, noteEarly } from './noted-import.ts';
import type { Planned } from '../plan/planning.ts';
import type { PrefetchOptions } from '../prefetch-options.ts';
import type { PrefetchResult } from '../prefetch-result.ts';
import type { Roots } from '../walk/roots.ts';
import type { Target } from '../plan/target.ts';

/** Import errors that leave the file store intact. */
const OF_IMPORT: readonly ErrorCode[] = ['IMPORT_FAILED', 'NIX_MISSING', 'NAR_UNAVAILABLE', 'INTERRUPTED'];

/**
 * Imports the complete part of a closure, if an import was requested.
 *
 * @throws as {@link importNoted}; with `keepGoing`, returns the failure of the import instead
 */
export async function importGathered(
  roots: Roots,
  { plan, needed }: Planned,
  gathered: Gathered,
  download: FetchNarsContext,
  options: PrefetchOptions,
  { early, target }: { readonly early: EarlyImport | undefined; readonly target: Target | undefined },
): Promise<Pick<PrefetchResult, 'imported' | 'importFailure'>> {
  const { copy, to, trustedPublicKeys, onlyRoots, keepGoing } = options;
  const { signal, tell } = download;
  const tops = copy && onlyRoots !== true ? importable(roots, gathered.closure) : [];
  if (tops.length === 0) return { imported: false, importFailure: undefined };
  try {
    signal.throwIfAborted();
    if (needed?.size === 0) return { imported: gathered.wholeRoots.length > 0, importFailure: undefined };
    tell({ type: 'importing', to });
    if (early !== undefined) {
      await early.end();
      await noteEarly(early.imported, download);
    }
    if (await mayLack(gathered.closure, early, target ?? ofStore(to, signal))) {
      const done = await importNoted(tops, { closure: gathered.closure, plan }, { download, to, trustedPublicKeys });
      gathered.take(done.closure, done.failures);
    }
    return { imported: gathered.wholeRoots.length > 0, importFailure: undefined };
  } catch (error) {
    const reason: unknown = signal.aborted ? signal.reason : error;
    if (keepGoing !== true || !isNarswarmError(reason, ...OF_IMPORT)) throw reason;
    return { imported: false, importFailure: reason };
  }
}

/** Returns true if the target may lack a path of the closure. It is asked if most may have been imported. */
async function mayLack(
  closure: Closure,
  early: EarlyImport | undefined,
  target: Pick<Target, 'invalidPaths'>,
): Promise<boolean> {
  if (early === undefined || early.imported.size === 0) return true;
  return (await target.invalidPaths(pathsOf(closure))).size > 0;
}

/** Asks a new process. */
function ofStore(to: string | undefined, signal: AbortSignal): Pick<Target, 'invalidPaths'> {
  return { invalidPaths: (paths) => queryInvalidPaths(paths, to, { signal }) };
}

/** Returns arguments for `nix copy` that cover the complete part: the roots, and the complete parts of broken ones. */
function importable({ names }: Roots, closure: Closure): StorePath[] {
  const whole = [...names.keys()].flatMap((hash) => closure.get(hash)?.storePath ?? []);
  return whole.length === names.size ? whole : [...new Set([...whole, ...topsOf(closure)])];
}
