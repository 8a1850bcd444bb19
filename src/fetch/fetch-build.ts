import { NarswarmError } from '../errors.ts';
import type { NarHash, StorePath } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { PartialSession } from '../store/session.ts';
import { prefetch } from './prefetch.ts';
import type { PrefetchContext, PrefetchOptions } from './prefetch-options.ts';

/** A build of a path, as it was fetched. */
export interface FetchedBuild {
  readonly path: StorePath;
  /** Absolute path of the NAR file. */
  readonly file: string;
  readonly compression: string;
  readonly narSize: number;
}

/** A build to fetch. */
export interface WantedBuild {
  readonly path: StorePath;
  readonly narHash: NarHash;
  /** Folder of the file store that it is fetched into. It is made. */
  readonly dir: string;
  /** Limit on the NAR and on its file. */
  readonly maxBytes: number;
}

/**
 * Fetches one build of a path, without its references, into a store of its own: it is neither given to others nor found
 * by any other fetch. Only its NarHash counts, not who has signed it.
 *
 * @throws STORE_OVER_BUDGET if it is too large, before anything is downloaded; errors of {@link prefetch}
 */
export async function fetchBuild(
  { path, narHash, dir, maxBytes }: WantedBuild,
  options: Pick<PrefetchOptions, 'publishers' | 'upstreams' | 'publisherTimeoutMs' | 'peerTimeoutMs'>,
  { held: _held, ...context }: Omit<PrefetchContext, 'store' | 'session'>,
): Promise<FetchedBuild> {
  const store = await FileStore.open(dir, { create: true });
  await using session = await PartialSession.open(store);
  const { closure } = await prefetch(
    {
      ...options,
      roots: [path],
      narHash,
      onlyRoots: true,
      copy: false,
      looksInto: 'all',
      trustedPublicKeys: [],
      onPlanned: (planned, { jobBytes }) => {
        const narBytes = [...planned.values()].reduce((sum, { narSize }) => sum + narSize, 0);
        const bytes = Math.max(narBytes, jobBytes);
        if (bytes <= maxBytes) return Promise.resolve();
        const why = `it takes ${bytes} bytes, and ${maxBytes} are left of keep-different`;
        return Promise.reject(new NarswarmError('STORE_OVER_BUDGET', why, { facts: { path, why } }));
      },
    },
    { ...context, store, session, deltas: false },
  );
  const info = closure.get(storeHashOf(path));
  if (info === undefined) throw new NarswarmError('NAR_UNAVAILABLE', `nobody has ${path}`, { facts: { path } });
  return { path, file: store.narPath(info), compression: info.compression, narSize: info.narSize };
}
