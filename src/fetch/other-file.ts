import { rm } from 'node:fs/promises';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { Upstream } from '../http/upstream.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { narContentsOf, readNar } from '../store/hash-nar.ts';
import { extensionOf } from '../torrent/canonical.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import { firstTrusted, upstreamSource } from './find-narinfo.ts';
import { planFetch } from './plan.ts';
import type { PrefetchContext } from './prefetch.ts';
import { Scheduler } from './scheduler.ts';

type OtherFileContext = Pick<PrefetchContext, 'store' | 'session' | 'http' | 'keys' | 'progress' | 'signal'> & {
  readonly upstreams: readonly Upstream[];
  readonly limit?: RateLimit | undefined;
};

/**
 * Fetches the NAR of a path whose file has turned out to have other contents than were signed, as another upstream's own
 * narinfo describes it, until one has the signed contents.
 *
 * @returns the narinfo of the file that is now in the store, or undefined if no upstream has the right one
 * @throws STORE_FULL, STORE_UNWRITABLE, NIX_MISSING; the signal's reason
 */
export async function fetchOtherFile(info: NarInfo, context: OtherFileContext): Promise<NarInfo | undefined> {
  const { store, http, keys, signal, progress } = context;
  const storeHash = storeHashOf(info.storePath);
  const tried = new Set([info.fileHash]);
  for (const upstream of context.upstreams) {
    try {
      const own = await firstTrusted([upstreamSource(upstream, http)], keys)(storeHash, signal);
      if (own?.fileHash === undefined || tried.has(own.fileHash)) continue;
      tried.add(own.fileHash);
      const alone = new Map([[storeHash, own]]);
      const plan = await planFetch(alone, { store, catalogue: await Catalogue.open(store), needed: undefined, signal });
      const scheduler = new Scheduler({ ...context, network: undefined, upstreams: [upstream], observer: progress });
      await scheduler.run(plan.jobs, signal);
      const fetched = scheduler.asFetched(own);
      const path = store.narPath({
        ...fetched,
        url: FileStore.narUrl(fetched.fileHash ?? own.fileHash, extensionOf(fetched.compression)),
      });
      if ((await readNar(path, narContentsOf(fetched), signal))?.narHash === info.narHash) return fetched;
      if (plan.jobs.length > 0) await rm(path, { force: true });
    } catch (error) {
      signal.throwIfAborted();
      if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE', 'NIX_MISSING')) throw error;
      if (!(error instanceof NarswarmError)) throw error;
      progress.onWarning(error.message); // the next one may have it
    }
  }
  return undefined;
}
