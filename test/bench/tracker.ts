/** A minimal tracker: answers every announce with the same peer (BEP 3, BEP 23). */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Tracker extends AsyncDisposable {
  readonly announceUrl: string;
}

/** Listens on loopback. @param peerPort TCP port of the peer, which is on loopback too */
export async function startTracker(peerPort: number): Promise<Tracker> {
  const peer = Buffer.from([127, 0, 0, 1, peerPort >> 8, peerPort & 0xff]);
  const body = Buffer.concat([
    Buffer.from('d8:completei1e10:incompletei0e8:intervali3600e5:peers6:'),
    peer,
    Buffer.from('e'),
  ]);
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length }).end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    announceUrl: `http://127.0.0.1:${port}/announce`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
