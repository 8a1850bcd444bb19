import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { isRemoteStore } from '../../nix/store-place.ts';
import { pathsOf, type Closure } from '../walk/closure.ts';
import { EarlyImport } from './early-import.ts';
import type { FetchSources } from '../sources/fetch-sources.ts';
import { checksSignatures } from './import.ts';
import type { Planned } from '../plan/planning.ts';
import type { PrefetchContext, PrefetchOptions } from '../prefetch-options.ts';

/** Prepares the import of a fetch. Undefined if nothing is imported beside it. */
export async function openEarlyImport(
  { copy, onlyRoots, to, trustedPublicKeys }: PrefetchOptions,
  { store, keys, importWith, tell, signal }: PrefetchContext,
  {
    closure,
    planned,
    sources,
  }: { readonly closure: Closure; readonly planned: Planned; readonly sources: FetchSources },
): Promise<EarlyImport | undefined> {
  if (!copy || onlyRoots === true || importWith === 'nix-copy') return undefined;
  if (isRemoteStore(to) || to?.startsWith('file:') === true) return undefined; // a binary cache takes paths from no other
  const needed = planned.needed ?? (await queryInvalidPaths(pathsOf(closure), to, { signal }));
  if (needed.size === 0) return undefined;
  tell({ type: 'to-import', paths: needed.size });
  const checkSignatures = checksSignatures(closure, { upstreams: sources.caches, keys });
  const toDownloadBytes = planned.plan.jobBytes;
  return new EarlyImport(closure, needed, {
    store,
    to,
    trustedPublicKeys,
    checkSignatures,
    toDownloadBytes,
    tell,
    signal,
  });
}
