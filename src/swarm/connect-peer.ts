import { connect } from 'node:net';
import type Torrent from 'webtorrent/lib/torrent.js';
import { CONNECT_TIMEOUT_MS } from '../wire/bounds.ts';
import { PeerConnection } from '../wire/peer-connection.ts';
import { noteReached, noteUnreachable, type PeerRecord } from '../discovery/peer-table.ts';
import { shapeOf } from './torrent-shape.ts';

/**
 * Connects a torrent to a peer, once, and writes down what became of it.
 *
 * @param onGone called once, when the connection has ended or could not be made
 */
export function connectPeer(torrent: Torrent, peer: PeerRecord, onGone: () => void): void {
  const { host, port } = peer.endpoint;
  const { blockList } = peer;
  const socket = connect({ host, port, ...(blockList === undefined ? {} : { blockList }) });
  let connection: PeerConnection | undefined;
  let isGone = false;
  let isReached = false;
  peer.dialedAtMs ??= performance.now();
  const end = (): void => {
    if (isGone) return;
    isGone = true;
    clearTimeout(timer);
    socket.destroy();
    torrent.off('close', end);
    // Even a handshake counts: whoever lacks the torrent closes without one.
    if ((connection?.receivedBytes ?? 0) > 0) {
      peer.hits++;
    } else {
      peer.misses++;
      peer.missedAtMs = performance.now();
      if (!isReached) noteUnreachable(peer);
    }
    onGone();
  };
  const timer = setTimeout(end, CONNECT_TIMEOUT_MS);
  socket.on('error', end).once('close', end);
  torrent.once('close', end);
  socket.once('connect', () => {
    clearTimeout(timer);
    isReached = true;
    noteReached(peer);
    whenNamed(torrent, () => {
      if (isGone || torrent.destroyed) return end();
      const at = peer.address.lastIndexOf(':');
      connection = new PeerConnection(socket, {
        id: peer.address,
        remoteAddress: peer.address.slice(0, at),
        remotePort: port,
        shape: shapeOf(torrent),
      });
      if (!torrent.addPeer(connection, 'narswarm')) end();
    });
  });
}

/** Calls back when WebTorrent takes peers for a torrent, which reads even a bare infohash in a later tick, or it is closed. */
export function whenNamed(torrent: Torrent, then: () => void): void {
  if (torrent.infoHash !== undefined || torrent.destroyed) then();
  else torrent.once('infoHash', then).once('close', then);
}
