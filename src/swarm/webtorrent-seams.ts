/** Every private member of a library that the swarm uses. test/swarm/seams.test.ts counts them. */
import type WebTorrent from 'webtorrent';

/**
 * Makes WebTorrent work without its own server, as in its build for browsers. Its server listens on all addresses of
 * the machine, and none of our checks would see its connections. Until this call, it has listened on a socket with a
 * name and without a port.
 */
export function listenToNobody(client: WebTorrent): void {
  client._connPool?.destroy();
  client._connPool = undefined;
  client._onListening();
}
