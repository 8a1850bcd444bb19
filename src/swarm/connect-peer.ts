import { connect } from 'node:net';
import { noteReached, noteUnreachable, type PeerRecord } from '../discovery/peer-table.ts';
import { CONNECT_TIMEOUT_MS } from '../wire/bounds.ts';
import type { PeerConnection } from '../wire/peer-connection.ts';
import type { OpenTorrent } from './open-torrent.ts';

/**
 * Connects a torrent to a peer, once, and records the outcome.
 *
 * @param onGone called once, when the connection has ended or could not be made
 */
export function connectPeer(torrent: OpenTorrent, peer: PeerRecord, onGone: () => void): void {
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
    torrent.handle.off('close', end);
    // A handshake is enough: a peer that lacks the torrent closes the connection without one.
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
  torrent.handle.once('close', end);
  socket.once('connect', () => {
    clearTimeout(timer);
    isReached = true;
    noteReached(peer);
    torrent.whenNamed(() => {
      if (isGone || torrent.isClosed) return end();
      const at = peer.address.lastIndexOf(':');
      const remoteAddress = peer.address.slice(0, at);
      connection = torrent.connect(socket, { id: peer.address, remoteAddress, remotePort: port });
      if (connection === undefined) end();
    });
  });
}
