import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import parseRange from 'range-parser';
import { PATCH_EXTENSION } from '../delta/record.ts';
import { unlessInvalid } from '../delta/unless-invalid.ts';
import { NarswarmError } from '../errors.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import type { IndexDir } from '../index/files/index-dir.ts';
import type { DirectionLimit, RateLimit } from '../bytes/rate-limit.ts';
import { mayHave, type Serves } from '../discovery/connection-guard.ts';
import type { FileHash } from '../nix/brands.ts';
import { asFileHash } from '../nix/hash.ts';
import {
  HTTP_CHUNK_BYTES,
  HTTP_IDLE_MS,
  MAX_HTTP_CONNECTIONS,
  MAX_HTTP_CONNECTIONS_PER_HOST,
  MAX_HTTP_REQUESTS_WAITING,
} from '../wire/bounds.ts';
import { ConnectionLimits, connectionsWithin } from '../wire/connection-limits.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import type { TakeChunk } from '../substituter/answer-buffers.ts';
import { offeredBytes } from '../substituter/file-bytes.ts';
import { listenAtFirst } from '../wire/ports.ts';

const PATH = /^\/(?:maps\/([0-9a-f]{64}-[0-9a-f]{1,128})\/)?(.+)$/;
const MAP_FILE = /^(?:manifest|shards\/(?:[0-9a-z]{1,2}|[0-9a-z]{52}|all)\.zst)$/;
const PATCH = new RegExp(`^nar/([0-9a-z]{52})\\.nar\\.${PATCH_EXTENSION}$`);
const OCTETS = 'application/octet-stream';
/** A year, the longest time that caches keep an answer: the name of a patch is its hash. */
const FOR_EVER = 'public, max-age=31536000, immutable';

/** The folders of the served hash maps, and the patches that they name. */
export interface ServedMaps {
  /** This machine's own hash map, at the top. */
  readonly own?: IndexDir | undefined;
  /** Returns the folder of a map that this machine holds. It is served below `/maps/<key>-<salt>/`. */
  readonly dirOf: (map: string) => IndexDir | undefined;
  /** Opens a patch. Undefined if others may not have it. */
  readonly openPatch: (file: FileHash) => Promise<OfferedFile | undefined>;
}

/**
 * Serves hash maps over HTTP, for networks without UDP, and the patches that others may have. Serves only `manifest`, the
 * files below `shards/` and `nar/<FileHash>.nar.delta`, and only to hosts that the scope admits. A client that does not read
 * costs one chunk of one file.
 */
export class IndexServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #maps: ServedMaps;
  readonly #limit: DirectionLimit | undefined;
  /** For each connection: the number of waiting requests, and the end of the last one. */
  readonly #turns = new WeakMap<Socket, { waiting: number; last: Promise<void> }>();

  private constructor(maps: ServedMaps, limit: DirectionLimit | undefined) {
    this.#maps = maps;
    this.#limit = limit;
    this.#server = createServer({ requestTimeout: HTTP_IDLE_MS, headersTimeout: HTTP_IDLE_MS }, (request, response) =>
      this.#inTurn(request, response),
    );
    this.#server.setTimeout(HTTP_IDLE_MS);
  }

  /** @throws LISTEN_FAILED if the address or port is not available */
  static async listen(
    maps: ServedMaps,
    options: {
      host?: string | undefined;
      /** TCP ports. The first free one is used. Default: any. */
      ports?: readonly number[] | undefined;
      serves: Serves;
      limit?: DirectionLimit | undefined;
      /** Decides which hosts are on the local network. Default: those in the network of an interface. */
      networks?: Pick<LocalNetworks, 'includes'>;
    },
  ): Promise<IndexServer> {
    const networks = options.networks ?? new LocalNetworks();
    const limits = new ConnectionLimits({
      total: connectionsWithin(MAX_HTTP_CONNECTIONS),
      perHost: () => MAX_HTTP_CONNECTIONS_PER_HOST,
    });
    return listenAtFirst(options.ports ?? [0], async (port) => {
      const started = new IndexServer(maps, options.limit);
      const server = started.#server;
      server.on('connection', (socket) => {
        if (!mayHave(options.serves, socket.remoteAddress ?? '', networks) || !limits.admit(socket)) socket.destroy();
      });
      server.listen(port, options.host);
      try {
        await once(server, 'listening');
      } catch (error) {
        throw new NarswarmError(
          'LISTEN_FAILED',
          `cannot serve HTTP on port ${port} (${(error as Error).message}): choose another --http-port`,
          { cause: error, facts: { port } },
        );
      }
      server.on('error', () => undefined); // a connection could not be opened: too many open files
      return started;
    });
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

  /** Answers the requests of a connection one after another, so that it has at most one open file. */
  #inTurn(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const turns = this.#turns.get(socket) ?? { waiting: 0, last: Promise.resolve() };
    this.#turns.set(socket, turns);
    if (++turns.waiting > MAX_HTTP_REQUESTS_WAITING) {
      socket.destroy();
      return;
    }
    turns.last = turns.last
      .then(() => (socket.destroyed ? undefined : this.#answer(request, response)))
      .catch(() => {
        if (response.headersSent) socket.destroy();
        else response.writeHead(500).end();
      })
      .finally(() => turns.waiting--);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, map, name = ''] = PATH.exec(request.url ?? '') ?? [];
    const dir = map === undefined ? this.#maps.own : this.#maps.dirOf(map);
    const isKnown = dir !== undefined && (request.method === 'GET' || request.method === 'HEAD');
    const fileHash = isKnown ? patchOf(name) : undefined;
    if (fileHash !== undefined) return this.#answerPatch(fileHash, request, response);
    await using file = isKnown && MAP_FILE.test(name) ? await dir.open(name) : undefined;
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { size: sizeBytes, mtimeMs, ino } = await file.stat();
    const etag = `"${ino.toString(36)}-${mtimeMs.toString(36)}-${sizeBytes.toString(36)}"`; // a changed file is a new one
    if (request.headers['if-none-match'] === etag) {
      response.writeHead(304, { etag }).end();
      return;
    }
    response.writeHead(200, { 'content-type': OCTETS, 'content-length': sizeBytes, etag });
    if (request.method === 'HEAD') response.end();
    else
      await this.#send(file.createReadStream({ highWaterMark: HTTP_CHUNK_BYTES, autoClose: false }), request, response);
  }

  /** Answers with a patch, or with the part of it that was asked for. */
  async #answerPatch(fileHash: FileHash, request: IncomingMessage, response: ServerResponse): Promise<void> {
    await using file = await this.#maps.openPatch(fileHash);
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { sizeBytes } = file;
    const { range } = request.headers;
    const ranges = range === undefined ? undefined : parseRange(sizeBytes, range);
    if (ranges === -1) {
      response.writeHead(416, { 'content-range': `bytes */${sizeBytes}` }).end();
      return;
    }
    const [part] = Array.isArray(ranges) && ranges.type === 'bytes' && ranges.length === 1 ? ranges : [];
    const { start, end } = part ?? { start: 0, end: sizeBytes - 1 };
    response.writeHead(part === undefined ? 200 : 206, {
      'content-type': OCTETS,
      'content-length': end - start + 1,
      'accept-ranges': 'bytes',
      'cache-control': FOR_EVER,
      ...(part === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${sizeBytes}` }),
    });
    if (request.method === 'HEAD') response.end();
    else await this.#send(offeredBytes(file, smallChunk, { start, end }), request, response);
  }

  async #send(body: AsyncIterable<Buffer>, { socket }: IncomingMessage, response: ServerResponse): Promise<void> {
    const limit = this.#limit?.towards(socket.remoteAddress ?? '');
    await pipeline(limit === undefined ? body : paced(body, limit, response), response);
  }
}

/** Returns the FileHash of a patch from its name. Undefined for any other name. */
function patchOf(name: string): FileHash | undefined {
  const [, hash] = PATCH.exec(name) ?? [];
  return hash === undefined ? undefined : unlessInvalid(() => asFileHash(`sha256:${hash}`));
}

const smallChunk: TakeChunk = (bytes) => Buffer.allocUnsafe(Math.min(bytes, HTTP_CHUNK_BYTES));

/** Passes bytes on as fast as the limit allows. */
async function* paced(body: AsyncIterable<Buffer>, limit: RateLimit, response: ServerResponse): AsyncGenerator<Buffer> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  for await (const chunk of body) {
    await limit.pace(chunk.length, gone.signal);
    yield chunk;
  }
}
