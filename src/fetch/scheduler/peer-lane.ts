import { copyInto } from '../../bytes/lent-buffers.ts';
import type { Network } from '../../swarm/network.ts';
import { hostOf } from '../../discovery/endpoint.ts';
import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { PieceStorage } from '../../swarm/chunk-store.ts';
import type { PartialNar } from '../../store/partial.ts';
import type { PieceStart } from '../../swarm/piece-ledger.ts';
import type { Tell } from '../events.ts';
import type { NarJob } from '../plan/job.ts';
import { SharedNar } from './shared-nar.ts';
import type { Patience } from './lane-policy.ts';

/** Number of peers that are asked for one NAR at the start, and that are added when those are not enough. */
const PEERS_AT_ONCE = 4;
const LOOK_EVERY_MS = 250;
const ASK_AGAIN_MS = 3_000;
/** Time to wait for a turn if there is no other source. Clients give turns every 10 s, strangers every 30 s (BEP 3). */
const TURN_MS = 35_000;

/** The surroundings of a NAR's download from peers. */
interface PeerContext {
  readonly network: Network;
  readonly tell: Tell;
  readonly patience: () => Patience;
  /** Called with verified bytes. */
  readonly onVerified: (bytes: number) => void;
  /** Called when a peer has sent wrong bytes. */
  readonly onLie: () => void;
  /** Called when a peer turns out to accept requests and send nothing. */
  readonly onSilent: () => void;
  /** Called when peers have sent nothing for as long as they are waited for. */
  readonly onWaited: () => void;
  /** Aborted when another source should continue. */
  readonly handOver: AbortSignal;
  readonly signal: AbortSignal;
}

/** `complete`: every piece is here. `given up`: the missing part must come from another source. */
export type PeerOutcome = 'complete' | 'given up';

/**
 * Fetches the missing part of a NAR from peers. Ends when it is complete, when peers are too slow, or when `handOver`
 * is aborted.
 *
 * @throws errors of the storage (a full disk), the signal's reason
 */
export async function fetchFromPeers(
  job: NarJob & { readonly torrent: NonNullable<NarJob['torrent']> },
  partial: PartialNar,
  context: PeerContext,
): Promise<PeerOutcome> {
  const { network, tell, signal, handOver } = context;
  if (partial.missing().length === 0) return 'complete';
  const isAlone = (): boolean => context.patience().firstByteMs === Infinity;
  // Peers that accept requests and send nothing are asked only if there is no better source.
  const choose = (count: number, peers: readonly PeerRecord[]): PeerRecord[] =>
    network.swarm.peers.choose(count, peers, { mayBeSilent: isAlone() });
  if (!isAlone() && choose(1, network.foreigners()).length === 0) return 'given up'; // a torrent takes time to open
  const download = await network.swarm.download(job.torrent, storageOf(partial), (index) => partial.has(index), {
    // Pieces from an upstream or an earlier run may belong to a private NAR whose FileHash a peer has named.
    gives: partial.heldBytes === 0,
  });
  const { pieceLength } = job.torrent;
  const askMore = (): PeerRecord[] => {
    const fresh = network.foreigners().filter((peer) => !download.hasTried(peer.address));
    const chosen = choose(PEERS_AT_ONCE, fresh);
    void download.addPeers(chosen).catch(() => undefined); // a torrent that ends reports it as an `error`
    return chosen;
  };
  download.on('bytes', (bytes, origin) => {
    const isNear = network.networks.includes(hostOf(origin));
    tell({ type: 'nar-bytes', source: 'peers', group: 'clients', isNear, origin, nar: job.fileHash, bytes });
  });
  download.on('verified', (bytes) => context.onVerified(bytes));
  download.on('lie', (address) => tellLie(context, address, job));
  try {
    await download.putBack(await beginningsOf(partial, pieceLength));
    return await new Promise<PeerOutcome>((resolve, reject) => {
      const timer = setInterval(look, LOOK_EVERY_MS);
      let queuedAtMs = -Infinity;
      const stop = new AbortController();
      const end = (settle: () => void): void => {
        clearInterval(timer);
        stop.abort();
        settle();
      };
      function look(): void {
        const { firstByteMs, stallMs } = context.patience();
        const nowMs = performance.now();
        if (download.isQueued) queuedAtMs = nowMs;
        // Without an upstream there is time: a peer without the NAR may have it by now, and is asked again. A peer that
        // has it would put us at the end of its queue.
        const isPatient = isAlone() && nowMs - queuedAtMs < ASK_AGAIN_MS;
        const limitMs = download.bytes === 0 ? Math.min(firstByteMs, ASK_AGAIN_MS) : stallMs;
        if (download.idleMs > (isPatient ? TURN_MS : limitMs)) {
          if (download.bytes === 0 && !isAlone()) {
            download.noteUnanswered();
            context.onWaited();
          }
          end(() => resolve('given up'));
          return;
        }
        const hasMore = download.promising >= PEERS_AT_ONCE || askMore().length > 0;
        if (!hasMore && download.bytes === 0 && download.areAllSilent && !isAlone()) end(() => resolve('given up'));
      }
      download.once('done', () => end(() => resolve('complete')));
      download.once('error', (error) => end(() => reject(error)));
      download.on('alone', () => {
        if (askMore().length > 0) return;
        if (!isAlone()) end(() => resolve('given up'));
      });
      download.on('silent', () => {
        context.onSilent();
        look();
      });
      network.discovery.on('peer', onPeer);
      stop.signal.addEventListener('abort', () => network.discovery.off('peer', onPeer));
      function onPeer(): void {
        if (download.promising < PEERS_AT_ONCE) askMore();
      }
      onAbort(signal, stop.signal, () => end(() => reject(signal.reason as Error)));
      onAbort(handOver, stop.signal, () => end(() => resolve('given up')));
      if (askMore().length === 0 && !isAlone()) end(() => resolve('given up'));
    });
  } finally {
    // Unchecked bytes are useful to the next source, too: the file's hash covers everything.
    const nar = new SharedNar(partial);
    for (const { index, bytes } of await download.stop()) await nar.write(index * pieceLength, [bytes], 'peers');
  }
}

/** Returns the beginnings of incomplete pieces, in whole blocks. */
async function beginningsOf(partial: PartialNar, pieceLength: number): Promise<PieceStart[]> {
  const starts: PieceStart[] = [];
  for (const { from } of partial.missing()) {
    const length = from % pieceLength;
    if (length > 0)
      starts.push({ index: Math.floor(from / pieceLength), bytes: await partial.read(from - length, length) });
  }
  return starts;
}

function tellLie({ tell, onLie }: PeerContext, address: string, job: NarJob): void {
  onLie();
  tell({ type: 'warning', warning: { kind: 'lying-peer', peer: address, path: job.info.storePath } });
}

function storageOf(partial: PartialNar): PieceStorage {
  return {
    read: async (targets, offset) => {
      let at = offset;
      for (const target of targets) {
        copyInto(target, await partial.read(at, target.length), 0);
        at += target.length;
      }
    },
    write: (index, bytes) => partial.putPiece(index, bytes, 'peers'),
    close: () => partial.drain(), // WebTorrent may stop while a piece is on its way to the disk
  };
}

function onAbort(signal: AbortSignal, until: AbortSignal, listener: () => void): void {
  if (signal.aborted) listener();
  else signal.addEventListener('abort', listener, { once: true, signal: until });
}
