/** A binary cache over HTTP on its own port. It can misbehave on demand, and records its requests. */

import { createReadStream } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { resolve, sep } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** One way to misbehave. If several match a request, the first one that is not used up applies. */
export interface Fault {
  /** Tested against the request's path and query; default: every request. */
  match?: RegExp;
  /**
   * `status`: answers `status` (default 503) · `hold`: answers as usual, but only after `until` · `stall-headers`: never answers · `stall`, `cut`: after `afterBytes` of the
   * body falls silent, or closes the connection · `ignore-range`: 200 with everything · `corrupt`: flips the byte at
   * `afterBytes` of the body · `longer`, `shorter`: a well-formed body without Content-Length, one byte more than asked
   * for, or `afterBytes` long · `wrong-content-range`: one byte off · `slow`: `rateBytesPerSec` · `redirect`: `status`
   * (default 302) to `location`
   */
  kind:
    | 'status'
    | 'hold'
    | 'stall'
    | 'stall-headers'
    | 'cut'
    | 'ignore-range'
    | 'corrupt'
    | 'longer'
    | 'shorter'
    | 'wrong-content-range'
    | 'slow'
    | 'redirect';
  status?: number;
  /** Default 0. */
  afterBytes?: number;
  /** Number of requests that it affects; default: all. */
  times?: number;
  until?: Promise<void>;
  /** Value of the Retry-After header. */
  retryAfter?: string;
  /** Default 10,000. */
  rateBytesPerSec?: number;
  location?: string;
}

/** One request as it was served; `bytes` grows while the body is sent. */
export interface ServedRequest {
  method: string;
  url: string;
  range?: string;
  /** Status of the answer; 0 until there is one. */
  status: number;
  bytes: number;
}

export interface HttpCache extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, no trailing slash. */
  readonly url: string;
  readonly port: number;
  faults: Fault[];
  readonly requests: ServedRequest[];
  /** Body bytes of all requests since the last reset. */
  bytesSent(): number;
  resetCounts(): void;
  /** Closes every connection, stalled ones too. */
  stop(): Promise<void>;
}

/** Serves the files below `root` (nothing else, symlinks followed only within it). Port 0 picks a free one. */
export async function startHttpCache(
  root: string,
  { host = '127.0.0.1', port = 0 }: { host?: string; port?: number } = {},
): Promise<HttpCache> {
  const base = await realpath(root);
  const requests: ServedRequest[] = [];
  const hits = new WeakMap<Fault, number>();
  const server = createServer((request, response) => {
    const record = recordRequest(request);
    requests.push(record);
    const fault = takeFault(cache.faults, record.url, hits);
    // A client that hangs up in the middle is no failure of the server.
    void answer(base, request, response, record, fault).catch(() => response.destroy());
  });
  await listen(server, host, port);
  const bound = readPort(server);
  const stop = (): Promise<void> => closeServer(server);
  const cache: HttpCache = {
    url: `http://${host}:${bound}`,
    port: bound,
    faults: [],
    requests,
    bytesSent: () => requests.reduce((sum, { bytes }) => sum + bytes, 0),
    resetCounts: () => void requests.splice(0),
    stop,
    [Symbol.asyncDispose]: stop,
  };
  return cache;
}

function listen(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen(port, host, settle);
  return promise;
}

/** The port that a listening server was given. */
export function readPort(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port');
  return address.port;
}

function closeServer(server: Server): Promise<void> {
  const { promise, resolve: settle } = Promise.withResolvers<void>();
  server.close(() => settle());
  server.closeAllConnections();
  return promise;
}

function recordRequest({ method = '', url = '', headers }: IncomingMessage): ServedRequest {
  return { method, url, ...(headers.range === undefined ? {} : { range: headers.range }), status: 0, bytes: 0 };
}

function takeFault(faults: readonly Fault[], url: string, hits: WeakMap<Fault, number>): Fault | undefined {
  const fault = faults.find((one) => (one.match?.test(url) ?? true) && (hits.get(one) ?? 0) < (one.times ?? Infinity));
  if (fault !== undefined) hits.set(fault, (hits.get(fault) ?? 0) + 1);
  return fault;
}

async function answer(
  base: string,
  request: IncomingMessage,
  response: ServerResponse,
  record: ServedRequest,
  fault: Fault | undefined,
): Promise<void> {
  const send = (status: number, headers: Record<string, string | number> = {}): ServerResponse => {
    record.status = status;
    return response.writeHead(status, headers);
  };
  if (fault?.kind === 'stall-headers') return;
  if (fault?.kind === 'status') {
    const retryAfter = fault.retryAfter === undefined ? {} : { 'retry-after': fault.retryAfter };
    return void send(fault.status ?? 503, { 'content-length': 0, ...retryAfter }).end();
  }
  if (fault?.kind === 'redirect') {
    return void send(fault.status ?? 302, { location: fault.location ?? '/', 'content-length': 0 }).end();
  }
  if (fault?.kind === 'hold') await fault.until;
  const file = await findFile(base, record.url);
  if (file === undefined) return void send(404, { 'content-length': 0 }).end();
  const range = fault?.kind === 'ignore-range' ? undefined : parseRange(record.range, file.sizeBytes);
  if (range === null) {
    return void send(416, { 'content-range': `bytes */${file.sizeBytes}`, 'content-length': 0 }).end();
  }
  const [start, end] = range ?? [0, file.sizeBytes];
  const isChunked = fault?.kind === 'longer' || fault?.kind === 'shorter';
  const shift = fault?.kind === 'wrong-content-range' ? 1 : 0;
  send(range === undefined ? 200 : 206, {
    ...(isChunked ? {} : { 'content-length': end - start }),
    ...(range === undefined ? {} : { 'content-range': `bytes ${start + shift}-${end - 1}/${file.sizeBytes}` }),
    'accept-ranges': 'bytes',
  });
  if (request.method === 'HEAD' || start === end) return void response.end();
  if (fault === undefined || ['hold', 'ignore-range', 'wrong-content-range'].includes(fault.kind)) {
    const count = countBytes(record);
    return pipeline(createReadStream(file.path, { start, end: end - 1, highWaterMark: 262_144 }), count, response);
  }
  await misbehave(response, record, fault, await readRange(file.path, start, end));
}

/** Sends `body` with the fault. */
async function misbehave(response: ServerResponse, record: ServedRequest, fault: Fault, body: Buffer): Promise<void> {
  const { kind, afterBytes = 0, rateBytesPerSec = 10_000 } = fault;
  const write = async (bytes: Buffer): Promise<void> => {
    const { promise, resolve: settle, reject } = Promise.withResolvers<void>();
    response.write(bytes, (error) => (error ? reject(error) : settle()));
    await promise;
    record.bytes += bytes.length;
  };
  if (kind === 'stall' || kind === 'cut') {
    response.flushHeaders();
    if (afterBytes > 0) await write(body.subarray(0, afterBytes));
    if (kind === 'cut') response.socket?.end();
    return;
  }
  if (kind === 'slow') {
    const step = Math.max(1, Math.ceil(rateBytesPerSec / 50));
    for (let sent = 0; sent < body.length && !response.destroyed; sent += step) {
      // oxlint-disable-next-line no-await-in-loop -- slow on purpose
      await write(body.subarray(sent, sent + step));
      // oxlint-disable-next-line no-await-in-loop -- slow on purpose
      await sleep(20);
    }
  } else if (kind === 'shorter') await write(body.subarray(0, afterBytes));
  else await write(kind === 'longer' ? Buffer.concat([body, Buffer.from([0])]) : corrupt(body, afterBytes));
  response.end();
}

function corrupt(body: Buffer, at: number): Buffer {
  if (at < body.length) body.writeUInt8(body.readUInt8(at) ^ 0xff, at);
  return body;
}

function countBytes(record: ServedRequest): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      record.bytes += chunk.length;
      done(null, chunk);
    },
  });
}

async function readRange(path: string, start: number, end: number): Promise<Buffer> {
  await using file = await open(path);
  const body = Buffer.alloc(end - start);
  await file.read(body, 0, body.length, start);
  return body;
}

/** Returns the regular file that a request names; undefined if there is none below `base`. */
async function findFile(base: string, url: string): Promise<{ path: string; sizeBytes: number } | undefined> {
  try {
    const [pathname = ''] = url.split('?', 1);
    const path = await realpath(resolve(base, `.${decodeURIComponent(pathname)}`));
    if (!path.startsWith(base + sep)) return undefined;
    const stats = await stat(path);
    return stats.isFile() ? { path, sizeBytes: stats.size } : undefined;
  } catch {
    return undefined;
  }
}

/** Returns [start, end) of a Range header; undefined for the whole file, null if nothing can be sent. */
function parseRange(header: string | undefined, sizeBytes: number): [number, number] | null | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  const start = match[1] === '' ? Math.max(0, sizeBytes - Number(match[2])) : Number(match[1]);
  const end = match[1] === '' || match[2] === '' ? sizeBytes : Math.min(sizeBytes, Number(match[2]) + 1);
  return start < end ? [start, end] : null;
}
