import { isNarswarmError, type ErrorCode } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { topsOf, type Closure } from './closure.ts';
import type { FetchNarsContext } from './fetch-nars.ts';
import type { Gathered } from './gathered.ts';
import { importNoted } from './noted-import.ts';
import type { Planned } from './planning.ts';
import type { PrefetchOptions } from './prefetch-options.ts';
import type { PrefetchResult } from './prefetch-result.ts';
import type { Roots } from './roots.ts';

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
  { copy, to, trustedPublicKeys, onlyRoots, keepGoing }: PrefetchOptions,
): Promise<Pick<PrefetchResult, 'imported' | 'importFailure'>> {
  const { signal, tell } = download;
  const tops = copy && onlyRoots !== true ? importable(roots, gathered.closure) : [];
  if (tops.length === 0) return { imported: false, importFailure: undefined };
  try {
    signal.throwIfAborted();
    if (needed === undefined || needed.size > 0) {
      tell({ type: 'importing', to });
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

/** Returns arguments for `nix copy` that cover the complete part: the roots, and the complete parts of broken ones. */
function importable({ names }: Roots, closure: Closure): StorePath[] {
  const whole = [...names.keys()].flatMap((hash) => closure.get(hash)?.storePath ?? []);
  return whole.length === names.size ? whole : [...new Set([...whole, ...topsOf(closure)])];
}
