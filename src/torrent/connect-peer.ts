import type Torrent from 'webtorrent/lib/torrent.js';
import type { PeerRecord } from './peer-table.ts';

/** WebTorrent reconnects a peer as long as this count is small; whether to ask again is the scheduler's decision. */
const NO_RECONNECT = 1000;

/**
 * Connects a torrent to a peer, once, and writes down what became of it.
 *
 * @param onGone called once, when the connection has ended or could not be made
 */
export function connectPeer(torrent: Torrent, peer: PeerRecord, onGone: () => void): void {
  if (torrent.infoHash === undefined) {
    // WebTorrent reads even a bare infohash in a later tick
    torrent.once('infoHash', () => connectPeer(torrent, peer, onGone));
    return;
  }
  if (!torrent.addPeer(peer.address, 'narswarm')) {
    onGone();
    return;
  }
  const handle = torrent._peers.get(peer.address);
  if (handle === undefined) {
    onGone();
    return;
  }
  // WebTorrent counts anew after each handshake: an assignment alone would not outlive it.
  Object.defineProperty(handle, 'retries', { get: () => NO_RECONNECT, set: ignore });
  let served = false;
  let gone = false;
  const end = (): void => {
    if (gone) return;
    gone = true;
    if (served) {
      peer.hits++;
    } else {
      peer.misses++;
      peer.missedAtMs = performance.now();
    }
    onGone();
  };
  handle.on('download', () => {
    served = true; // even a handshake: whoever lacks the torrent closes without one
  });
  handle.conn?.once('close', end);
  handle.once('disconnect', end);
}

function ignore(): void {
  // the count stays
}
