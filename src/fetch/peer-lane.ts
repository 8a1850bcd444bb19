import type { Network } from '../torrent/network.ts';
import type { PeerRecord } from '../torrent/peer-table.ts';
import type { PieceStorage } from '../torrent/chunk-store.ts';
import type { PartialNar } from '../store/partial.ts';
import type { JobObserver, NarJob } from './job.ts';
import type { Patience } from './lane-policy.ts';

/** Peers asked for one NAR at the start, and added whenever those are not enough. */
const PEERS_AT_ONCE = 4;
const LOOK_EVERY_MS = 250;
const ASK_AGAIN_MS = 3_000;

/** What a NAR's way through the peers depends on. */
interface PeerContext {
  readonly network: Network;
  readonly observer: JobObserver;
  readonly patience: () => Patience;
  /** Another source takes it from here. */
  readonly handOver: AbortSignal;
  readonly signal: AbortSignal;
}

/** `complete`: every piece is there. `given up`: what is missing has to come from elsewhere. */
export type PeerOutcome = 'complete' | 'given up';

/**
 * Fetches what is missing of a NAR from peers, until it is complete, or they run out of patience, or `handOver` says
 * that another source takes it from here.
 *
 * @throws what the storage throws (a full disk), the signal's reason
 */
export async function fetchFromPeers(
  job: NarJob & { readonly torrent: NonNullable<NarJob['torrent']> },
  partial: PartialNar,
  context: PeerContext,
): Promise<PeerOutcome> {
  const { network, observer, signal, handOver } = context;
  if (partial.missing().length === 0) return 'complete';
  if (await fetchOverExchange(job, partial, context)) return 'complete';
  const download = network.swarm.download(job.torrent, storageOf(partial), (index) => partial.has(index), {
    // Pieces of an upstream or an earlier run may be those of a private NAR that somebody has named by its FileHash.
    gives: partial.heldBytes === 0,
  });
  const askMore = (): PeerRecord[] => {
    const fresh = network.discovery.candidates().filter((peer) => !download.hasTried(peer.address));
    const chosen = network.swarm.peers.choose(PEERS_AT_ONCE, fresh);
    void download.addPeers(chosen).catch(() => undefined); // a torrent that ends says so by `error`
    return chosen;
  };
  download.on('bytes', (bytes, address) => observer.onBytes('peers', address, bytes));
  download.on('lie', (address) => tellLie(observer, address, job));
  try {
    return await new Promise<PeerOutcome>((resolve, reject) => {
      const timer = setInterval(look, LOOK_EVERY_MS);
      const stop = new AbortController();
      const end = (settle: () => void): void => {
        clearInterval(timer);
        stop.abort();
        settle();
      };
      function look(): void {
        const { firstByteMs, stallMs } = context.patience();
        // Without an upstream there is time: but who had nothing before may have it by now, and is asked anew.
        const limitMs = download.bytes === 0 ? Math.min(firstByteMs, ASK_AGAIN_MS) : stallMs;
        if (download.idleMs > limitMs) end(() => resolve('given up'));
        else if (download.idleMs > limitMs / 2) askMore();
      }
      download.once('done', () => end(() => resolve('complete')));
      download.once('error', (error) => end(() => reject(error)));
      download.on('alone', () => {
        if (askMore().length > 0) return;
        if (context.patience().firstByteMs !== Infinity) end(() => resolve('given up'));
      });
      network.discovery.on('peer', onPeer);
      stop.signal.addEventListener('abort', () => network.discovery.off('peer', onPeer));
      function onPeer(): void {
        if (download.connected < PEERS_AT_ONCE) askMore();
      }
      onAbort(signal, stop.signal, () => end(() => reject(signal.reason as Error)));
      onAbort(handOver, stop.signal, () => end(() => resolve('given up')));
      if (askMore().length === 0 && context.patience().firstByteMs !== Infinity) end(() => resolve('given up'));
    });
  } finally {
    await download.stop();
  }
}

/** A NAR of one piece comes whole over the connection to a member of the cohort, where one has it. */
async function fetchOverExchange(
  job: NarJob & { readonly torrent: NonNullable<NarJob['torrent']> },
  partial: PartialNar,
  { network, observer, patience, handOver, signal }: PeerContext,
): Promise<boolean> {
  const found = await network.swarm.cohort.request(job.torrent, {
    onLie: (address) => tellLie(observer, address, job),
    patienceMs: patience().firstByteMs,
    signal: AbortSignal.any([signal, handOver]),
  });
  signal.throwIfAborted();
  if (found === undefined) return false;
  observer.onBytes('peers', found.address, found.bytes.length);
  await partial.putPiece(0, found.bytes, found.address);
  return true;
}

function tellLie(observer: JobObserver, address: string, job: NarJob): void {
  observer.onWarning(`${address} sent wrong bytes for ${job.info.storePath}; it is not asked again`);
}

function storageOf(partial: PartialNar): PieceStorage {
  return {
    read: (offset, length) => partial.read(offset, length),
    write: (index, bytes) => partial.putPiece(index, bytes, 'peers'),
    close: () => partial.drain(), // WebTorrent may stop while a piece is on its way to the disk
  };
}

function onAbort(signal: AbortSignal, until: AbortSignal, listener: () => void): void {
  if (signal.aborted) listener();
  else signal.addEventListener('abort', listener, { once: true, signal: until });
}
