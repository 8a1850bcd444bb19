/** Every private member of a library that the swarm touches; test/swarm/seams.test.ts counts them. */
import type WebTorrent from 'webtorrent';

/**
 * Has WebTorrent do without a server of its own, as its build for browsers does: it always listens, on all addresses of
 * the machine, and what comes there would pass no check of ours. Until here it has listened on a socket that has a name
 * and no port.
 */
export function listenToNobody(client: WebTorrent): void {
  client._connPool?.destroy();
  client._connPool = undefined;
  client._onListening();
}
