import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import { isLoopback } from '../discovery/foreign-addresses.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { isIPv6 } from '../ip-version.ts';
import { ConnectionLimits, connectionsWithin } from '../wire/connection-limits.ts';
import { OwnNames } from './own-names.ts';
import { PAGES } from './web/routes.ts';
import { MAX_HTTP_REQUESTS_WAITING, MAX_NIX_CONNECTIONS, MAX_NIX_CONNECTIONS_PER_HOST } from '../wire/bounds.ts';

/** Time without a byte in either direction after which a connection is closed, unless its client waits for an answer. */
const IDLE_MS = 120_000;
/** Time for which a connection without a request is kept. Nix uses its connections again. */
const KEEP_MS = 75_000;
/** Time for answers that are on their way when the port is closed. */
const LAST_ANSWERS_MS = 1_000;
/** Time for a client to send the head of a request. */
const HEAD_MS = 10_000;

const OTHER_PAGE = 'a web page of another server has no business here\n';
const OTHER_NAME = 'this machine has another name: ask under that one, or name this one as substituter-name\n';

export interface HttpPortOptions {
  /** Descriptors of TCP sockets that listen already. */
  readonly passed?: readonly number[];
  /** Addresses to listen on, unless a passed socket does. */
  readonly listen: readonly Endpoint[];
  /** Returns true if the port is useful without this address, which cannot be listened on. Default: never. */
  readonly isNeedless?: (at: Endpoint, failure: NarswarmError) => boolean;
  /** Names of this machine besides those that the system knows. */
  readonly names?: readonly string[] | undefined;
  /** Limit on connections of all hosts. Default: {@link MAX_NIX_CONNECTIONS}. */
  readonly maxConnections?: number;
  /** Time without a byte in either direction after which an idle client is closed, in milliseconds. Default: 120,000. */
  readonly idleMs?: number;
  /** Adds what is served. */
  readonly routes: (app: FastifyInstance) => void;
}

/**
 * The HTTP port of a daemon. It answers only requests that name this machine by an address or its own name: otherwise a
 * web page could read it under a name that leads here (DNS rebinding). Nor may a page make its reader's browser ask: the
 * machine would fetch whole closures, and the page would learn which paths are here.
 */
export class HttpPort implements AsyncDisposable {
  readonly #app: FastifyInstance;
  readonly #servers: readonly Server[];

  private constructor(app: FastifyInstance, servers: readonly Server[]) {
    this.#app = app;
    this.#servers = servers;
  }

  /** @throws LISTEN_FAILED */
  static async open({
    passed = [],
    listen,
    isNeedless,
    names: further = [],
    maxConnections = MAX_NIX_CONNECTIONS,
    idleMs = IDLE_MS,
    routes,
  }: HttpPortOptions): Promise<HttpPort> {
    const names = new OwnNames({ further });
    const frameworkErrors = (_: unknown, __: unknown, reply: FastifyReply): void => void notFound(reply);
    const app = fastify({ logger: false, exposeHeadRoutes: true, frameworkErrors });
    app.addHook('onRequest', async (request, reply) => {
      if (!names.has(request.host)) await reply.code(421).type('text/plain').send(OTHER_NAME);
      else if (isOfOtherPage(request)) await reply.code(403).type('text/plain').send(OTHER_PAGE);
    });
    app.setNotFoundHandler((_, reply) => notFound(reply));
    routes(app);
    await app.ready();
    const waiting = new WaitingRequests();
    const limits = new ConnectionLimits({
      total: connectionsWithin(maxConnections),
      isBusy: (socket) => waiting.has(socket), // no NAR is cut
      perHost: (host) => (isLoopback(host) ? MAX_NIX_CONNECTIONS : MAX_NIX_CONNECTIONS_PER_HOST),
    });
    await using stack = new AsyncDisposableStack();
    const servers: Server[] = [];
    const add = async (at: Endpoint | { readonly fd: number }): Promise<void> => {
      const server = createServer({ headersTimeout: HEAD_MS, keepAliveTimeout: KEEP_MS }, (request, response) => {
        if (waiting.admit(request.socket, response)) app.routing(request, response);
      });
      server.setTimeout(idleMs, (socket) => {
        // On a slow line, the NARs that one Nix waits for come one after another.
        if (waiting.has(socket) && socket.writableLength === 0) socket.setTimeout(idleMs);
        else socket.destroy();
      });
      server.on('connection', (socket) => {
        if (!limits.admit(socket)) socket.destroy();
      });
      stack.defer(() => closed(server));
      await listening(server, at);
      servers.push(server);
    };
    for (const fd of passed) await add({ fd });
    for (const at of listen) {
      if (servers.slice(0, passed.length).some((server) => isAt(server, at))) continue;
      await add(at).catch((error: unknown) => {
        if (!isNarswarmError(error) || isNeedless?.(at, error) !== true) throw error;
      });
    }
    stack.move();
    return new HttpPort(app, servers);
  }

  /** Where it listens. */
  get addresses(): Endpoint[] {
    return this.#servers.map(endpointOf);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map(closed));
    await this.#app.close();
  }
}

/** No path that is malformed or too long can be one of a cache: Nix would take another status than 404 for a failure. */
function notFound(reply: FastifyReply): FastifyReply {
  return reply.code(404).type('text/plain').send('not found\n');
}

/** Counts the requests of each connection that have no answer yet. Node would read on while none of them is answered. */
class WaitingRequests {
  readonly #bySocket = new WeakMap<object, number>();

  /** Returns true if a connection has a request whose answer is not complete. */
  has(socket: object): boolean {
    return (this.#bySocket.get(socket) ?? 0) > 0;
  }

  /** Returns true if a request may be answered. Closes a connection on which too many wait. */
  admit(socket: Socket, response: ServerResponse): boolean {
    const waiting = (this.#bySocket.get(socket) ?? 0) + 1;
    if (waiting > MAX_HTTP_REQUESTS_WAITING) socket.destroy();
    if (socket.destroyed) return false;
    this.#bySocket.set(socket, waiting);
    response.once('close', () => this.#bySocket.set(socket, (this.#bySocket.get(socket) ?? 1) - 1));
    return true;
  }
}

/**
 * Returns true if a web page of another origin has made a browser ask (Fetch Metadata). Its links may lead to our own
 * pages. Browsers say so if they ask this machine itself; they do not if they ask it over a network.
 */
function isOfOtherPage({ headers, routeOptions }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'] ?? 'none';
  const isLink = headers['sec-fetch-dest'] === 'document' && PAGES.includes(routeOptions.url ?? '');
  return site !== 'none' && site !== 'same-origin' && !isLink;
}

/** @throws LISTEN_FAILED */
async function listening(server: Server, at: Endpoint | { readonly fd: number }): Promise<void> {
  try {
    server.listen('fd' in at ? at : { port: at.port, host: at.host });
    await once(server, 'listening');
  } catch (error) {
    throw listenFailure(at, error);
  }
  // A passed socket of another kind has no address. No client would count as local, and it could not be named.
  if (server.address() === null) throw listenFailure(at, new Error('it is no TCP socket'));
  server.on('error', () => undefined); // a connection could not be opened: too many open files
}

function listenFailure(at: Endpoint | { readonly fd: number }, cause: unknown): NarswarmError {
  const reason = (cause as Error).message;
  if ('fd' in at)
    return new NarswarmError(
      'LISTEN_FAILED',
      `cannot serve HTTP on the socket that the service manager passed as descriptor ${at.fd} (${reason}): pass TCP sockets that listen`,
      { cause },
    );
  return new NarswarmError(
    'LISTEN_FAILED',
    `cannot serve HTTP on ${formatEndpoint(at)} (${reason}): choose another --substituter-port`,
    { cause, facts: { port: at.port } },
  );
}

function endpointOf(server: Server): Endpoint {
  const { address, port } = server.address() as AddressInfo;
  return { host: address, port };
}

/** Returns true if a server listens on this address, or on all: `::` means those of IPv4, too. */
function isAt(server: Server, { host, port }: Endpoint): boolean {
  const own = endpointOf(server);
  return own.port === port && (own.host === host || own.host === '::' || (own.host === '0.0.0.0' && !isIPv6(host)));
}

/** Takes no further connection. Answers that are on their way have a moment to end. */
async function closed(server: Server): Promise<void> {
  const end = new Promise<void>((resolve) => server.close(() => resolve()));
  const timer = setTimeout(() => server.closeAllConnections(), LAST_ANSWERS_MS);
  await end;
  clearTimeout(timer);
}
