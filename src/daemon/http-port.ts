import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fastify, { type FastifyInstance } from 'fastify';
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import { isLoopback } from '../discovery/foreign-addresses.ts';
import { NarswarmError } from '../errors.ts';
import { ConnectionLimits, connectionsWithin } from '../wire/connection-limits.ts';
import { OwnNames } from './own-names.ts';
import { MAX_HTTP_CONNECTIONS, MAX_HTTP_CONNECTIONS_PER_HOST } from '../wire/bounds.ts';

/** Time without a byte in either direction after which a connection is closed. A NAR may be on its way from far. */
const IDLE_MS = 120_000;
/** Time for which a connection without a request is kept. Nix uses its connections again. */
const KEEP_MS = 75_000;
/** Time for a client to send the head of a request. */
const HEAD_MS = 10_000;

const OTHER_NAME = 'this machine has another name: ask under that one, or name this one as substituter-name\n';

export interface HttpPortOptions {
  /** Addresses to listen on. */
  readonly listen: readonly Endpoint[];
  /** Names of this machine besides those that the system knows. */
  readonly names?: readonly string[] | undefined;
  /** Adds what is served. */
  readonly routes: (app: FastifyInstance) => void;
}

/**
 * The HTTP port of a daemon. It answers only requests that name this machine by an address or its own name: otherwise a
 * web page could read it under a name that leads here (DNS rebinding).
 */
export class HttpPort implements AsyncDisposable {
  readonly #app: FastifyInstance;
  readonly #servers: readonly Server[];

  private constructor(app: FastifyInstance, servers: readonly Server[]) {
    this.#app = app;
    this.#servers = servers;
  }

  /** @throws LISTEN_FAILED */
  static async open({ listen, names: further = [], routes }: HttpPortOptions): Promise<HttpPort> {
    const names = new OwnNames({ further });
    const app = fastify({ logger: false, exposeHeadRoutes: true });
    app.addHook('onRequest', async ({ host }, reply) => {
      if (!names.has(host)) await reply.code(421).type('text/plain').send(OTHER_NAME);
    });
    app.setNotFoundHandler((_, reply) => reply.code(404).type('text/plain').send('not found\n'));
    routes(app);
    await app.ready();
    const limits = new ConnectionLimits({
      total: connectionsWithin(MAX_HTTP_CONNECTIONS),
      perHost: (host) => (isLoopback(host) ? MAX_HTTP_CONNECTIONS : MAX_HTTP_CONNECTIONS_PER_HOST),
    });
    await using stack = new AsyncDisposableStack();
    const servers: Server[] = [];
    for (const at of listen) {
      const server = createServer({ headersTimeout: HEAD_MS, keepAliveTimeout: KEEP_MS }, (request, response) =>
        app.routing(request, response),
      );
      server.setTimeout(IDLE_MS);
      server.on('connection', (socket) => {
        if (!limits.admit(socket)) socket.destroy();
      });
      stack.defer(() => closed(server));
      await listening(server, at);
      servers.push(server);
    }
    stack.move();
    return new HttpPort(app, servers);
  }

  /** Where it listens. */
  get addresses(): Endpoint[] {
    return this.#servers.map((server) => {
      const { address, port } = server.address() as AddressInfo;
      return { host: address, port };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map(closed));
    await this.#app.close();
  }
}

async function listening(server: Server, { host, port }: Endpoint): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new NarswarmError(
      'LISTEN_FAILED',
      `cannot serve HTTP on ${formatEndpoint({ host, port })} (${(error as Error).message}): choose another --substituter-port`,
      { cause: error, facts: { port } },
    );
  }
  server.on('error', () => undefined); // a connection could not be opened: too many open files
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
