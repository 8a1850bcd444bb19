import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';

/** Serves a folder as an HTTP binary cache on loopback. Stands in for cache.nixos.org in the demo. */
export interface CacheServer extends AsyncDisposable {
  readonly url: string;
  /** Bytes of NARs sent so far. */
  bytesSent(): number;
}

const NAME = /^\/(nix-cache-info|[0-9a-z]{32}\.narinfo|nar\/[0-9a-z]{52}\.nar\.xz)$/;

export async function serveCache(dir: string): Promise<CacheServer> {
  let sent = 0;
  const server = createServer((request, response) => {
    const name = NAME.exec(request.url ?? '')?.[1];
    void (async () => {
      const found = name === undefined ? undefined : await stat(join(dir, name)).catch(() => undefined);
      if (name === undefined || found === undefined) {
        response.writeHead(404).end();
        return;
      }
      response.writeHead(200, { 'content-length': found.size });
      if (name.startsWith('nar/')) sent += found.size;
      await pipeline(createReadStream(join(dir, name)), response).catch(() => undefined);
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytesSent: () => sent,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
