import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { NarswarmError } from '../errors.ts';
import type { IndexDir } from '../index/index-dir.ts';
import { mayHave, type Serves } from '../torrent/connection-guard.ts';
import { LocalNetworks } from '../torrent/local-networks.ts';

const NAME = /^\/(manifest|shards\/(?:[0-9a-z]{1,3}|all)\.zst)$/;

/**
 * Serves a hash map over HTTP, for networks without UDP: `/manifest` and `/shards/<prefix>.zst`, nothing else, to whom
 * the scope admits.
 */
export class IndexServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @throws LISTEN_FAILED where the address or port cannot be had */
  static async listen(
    dir: IndexDir,
    options: {
      host?: string | undefined;
      port?: number | undefined;
      serves: Serves;
      /** Which hosts are on the local network. Default: those on a network of an interface. */
      networks?: Pick<LocalNetworks, 'includes'>;
    },
  ): Promise<IndexServer> {
    const networks = options.networks ?? new LocalNetworks();
    const server = createServer((request, response) => {
      const name = NAME.exec(request.url ?? '')?.[1];
      if (name === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
        response.writeHead(404).end();
        return;
      }
      dir.read(name).then(
        (bytes) => {
          if (bytes === undefined) response.writeHead(404).end();
          else
            response
              .writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes.length })
              .end(request.method === 'HEAD' ? undefined : bytes);
        },
        () => response.writeHead(500).end(),
      );
    });
    server.on('connection', (socket) => {
      if (!mayHave(options.serves, socket.remoteAddress ?? '', networks)) socket.destroy();
    });
    server.listen(options.port ?? 0, options.host);
    try {
      await once(server, 'listening');
    } catch (error) {
      throw new NarswarmError(
        'LISTEN_FAILED',
        `cannot serve HTTP on port ${options.port ?? 0} (${(error as Error).message}): choose another --http-port`,
        { cause: error },
      );
    }
    return new IndexServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
