/** An HTTP server on its own port with a given handler, and a client for it. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { HttpClient } from '../../src/http/client.ts';
import { readPort } from './http-cache.ts';

/** Answers a request. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface Site extends AsyncDisposable {
  readonly url: string;
  readonly client: HttpClient;
  readonly requests: IncomingMessage[];
  handler: Handler;
}

/** Starts a server with this handler, and a client that hardly waits before it tries again. */
export async function startSite(handler: Handler): Promise<Site> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    site.handler(request, response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const client = new HttpClient({ backoffMs: 1, retries: 2 });
  const site: Site = {
    url: `http://127.0.0.1:${readPort(server)}`,
    client,
    requests,
    handler,
    async [Symbol.asyncDispose]() {
      await client.close();
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
  return site;
}
