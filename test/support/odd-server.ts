import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createRawServer } from 'node:net';
import { readPort } from './http-cache.ts';

/** Starts a server with this listener. */
export async function serve(listener: RequestListener): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${readPort(server)}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A server that answers each connection's first bytes with `text`, and closes it. */
export async function serveText(text: string): Promise<{ url: string; connections: () => number } & AsyncDisposable> {
  let connections = 0;
  const server = createRawServer((socket) => {
    connections += 1;
    socket.on('error', () => undefined).once('data', () => socket.end(Buffer.from(text, 'latin1')));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}
