import { setTimeout as sleep } from 'node:timers/promises';
import type { InfoHash } from '../nix/brands.ts';
import type { PublicKey } from '../nix/signature.ts';
import { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { Gate, seedOf } from '../store/gate.ts';
import { LastServed } from '../store/last-served.ts';
import { PartialSession } from '../store/session.ts';
import { Network, type NetworkOptions } from '../torrent/network.ts';
import { RateLimit } from '../torrent/rate-limit.ts';
import type { Seed } from '../torrent/swarm.ts';
import { HttpClient } from './http/client.ts';
import { prefetch, type PrefetchOptions, type PrefetchResult } from './prefetch.ts';
import { Progress } from './report.ts';

export interface RunFetchOptions extends Omit<PrefetchOptions, 'limit'> {
  readonly storeDir: string;
  readonly keys: readonly PublicKey[];
  /** undefined: peers are neither asked nor served. */
  readonly network: NetworkOptions | undefined;
  readonly maxDownloadRate?: number | undefined;
  /** Milliseconds to go on seeding after everything is done. */
  readonly seedForMs: number;
  readonly signal: AbortSignal;
  readonly onWarning: (message: string) => void;
  /** Given the progress as soon as there is one to show. */
  readonly onProgress?: (progress: Progress) => void;
  /** Everything asked for is in the store and imported; what follows is seeding alone. */
  readonly onDone?: (result: RunFetchResult) => void;
  /** Seeding begins, on this port. */
  readonly onSeeding?: (port: number) => void;
}

/** What a fetch did, for its report. */
export interface RunFetchResult extends PrefetchResult {
  readonly progress: Progress;
}

/** Opens the store, joins the network, fetches and imports, seeds as long as asked, and closes everything again. */
export async function runFetch(options: RunFetchOptions): Promise<RunFetchResult> {
  const { signal, onWarning } = options;
  await using stack = new AsyncDisposableStack();
  const store = await FileStore.open(options.storeDir, { create: true });
  const session = stack.use(await PartialSession.open(store));
  const http = stack.use(new HttpClient());
  const limit = new RateLimit(options.maxDownloadRate);
  const progress = new Progress(onWarning);
  options.onProgress?.(progress);

  const held = new Map<InfoHash, Seed>();
  const gate = new Gate(store, await Catalogue.open(store), options.keys);
  const served = new LastServed(store, onWarning);
  const seeds = served.noting(
    async (infoHash: InfoHash): Promise<Seed | undefined> => held.get(infoHash) ?? seedOf(await gate.admit(infoHash)),
  );
  const { onUpload } = served;
  const network =
    options.network === undefined
      ? undefined
      : stack.use(await Network.join({ ...options.network, downloadLimit: limit, seeds, onUpload, onWarning }));

  const done = await prefetch(
    { ...options, limit },
    {
      store,
      session,
      network,
      http,
      keys: options.keys,
      progress,
      signal,
      onHeld: (torrent, path) =>
        held.set(torrent.infoHash, { torrent, files: [{ path, sizeBytes: torrent.sizeBytes }] }),
    },
  );
  const result = { ...done, progress };
  await session[Symbol.asyncDispose](); // what is seeded from now on may be collected when nobody asks for it
  options.onDone?.(result);
  if (options.seedForMs > 0 && network !== undefined && options.dryRun !== true && !signal.aborted) {
    options.onSeeding?.(network.swarm.port);
    await sleep(options.seedForMs, undefined, { signal }).catch(() => undefined); // interrupted: all else is done
  }
  return result;
}
