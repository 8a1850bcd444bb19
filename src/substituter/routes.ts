import { stat } from 'node:fs/promises';
import { finished } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import parseRange from 'range-parser';
import { asFileHash } from '../nix/hash.ts';
import { parseStoreHash } from '../nix/store-path.ts';
import { answerStream, type TakeChunk } from './answer-buffers.ts';
import { fileBytes, offeredBytes, type Part } from './file-bytes.ts';
import { isLocalRequest } from './local-request.ts';
import { bytesOf } from './nar-body.ts';
import type { Client, Substituter, WantedNar } from './substituter.ts';

const NARINFO = /^([0-9a-z]{32})\.narinfo$/;
const NAR = /^([0-9a-z]{52})\.nar(?:\.([0-9a-z]{1,8}))?$/;
const STORE_HASH = /^[0-9a-z]{32}$/;
/** The name that Nix has in requests: `curl/8.14.1 Nix/2.26.3`. */
const NIX = /(?:^| )Nix\/(\d+)\.(\d+)/;
/** The first version that takes several NARs at a time. */
const PARALLEL_NIX = { major: 2, minor: 16 };

interface NarQuery {
  readonly path?: unknown;
  /** `nar`: the NAR itself, and not its file. */
  readonly as?: unknown;
}

/**
 * Adds the paths of a binary cache to a server (Nix: src/libstore/binary-cache-store.cc): `nix-cache-info`, narinfos,
 * NARs and realisations. Anything else is a 404, so that Nix asks its next substituter. Nothing is listed.
 */
export function addRoutes(app: FastifyInstance, substituter: Substituter): void {
  app.get('/nix-cache-info', (_, reply) => reply.type('text/x-nix-cache-info').send(substituter.cacheInfo));

  app.get<{ Params: { name: string } }>('/:name', { errorHandler }, async (request, reply) => {
    const [, hash] = NARINFO.exec(request.params.name) ?? [];
    const text = hash === undefined ? undefined : await substituter.narInfo(parseStoreHash(hash), clientOf(request));
    return text === undefined ? notFound(reply) : reply.type('text/x-nix-narinfo').send(text);
  });

  app.route<{ Params: { name: string }; Querystring: NarQuery }>({
    method: ['GET', 'HEAD'],
    url: '/nar/:name',
    errorHandler,
    handler: sendNar,
    onSend: async (request, reply) => {
      const { method, socket } = request;
      if (method !== 'GET' || reply.statusCode >= 300) return;
      reply.raw.once(
        'close',
        substituter.given.begin(socket, Number(reply.getHeader('content-length')), clientOf(request)),
      );
    },
  });
  for (const folder of ['/realisations/*', '/build-trace-v2/*'])
    app.get<{ Params: { '*': string } }>(folder, { errorHandler }, async (request, reply) => {
      const file = folder.slice(1).replace('*', request.params['*']);
      const text = await substituter.realisation(file, clientOf(request));
      return text === undefined ? notFound(reply) : reply.type('application/json').send(text);
    });

  async function sendNar(
    request: FastifyRequest<{ Params: { name: string }; Querystring: NarQuery }>,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const wanted = wantedNar(request.params.name, request.query);
    const found = wanted && (await substituter.nar(wanted, clientOf(request)));
    if (found === undefined) return notFound(reply);
    reply.type('application/x-nix-nar');
    if (found.kind === 'in-nix')
      return sendPart(request, reply, found.file.sizeBytes, (take, part) => offeredBytes(found.file, take, part));
    if (found.kind !== 'here') finished(reply.raw, found.leave); // the client may have gone already
    if (found.kind === 'decoded') {
      await found.nar.begun();
      if (found.nar.failure !== undefined) return notFound(reply);
      return sendBytes(request, reply, found.nar.info.narSize, () => found.nar.bytes());
    }
    reply.header('accept-ranges', 'bytes');
    if (found.kind === 'here') return sendFile(request, reply, found);
    const { arrival } = found;
    // A part is given once the whole is known to be right.
    await (request.headers.range === undefined ? arrival.begun() : arrival.ended());
    if (arrival.failure !== undefined || arrival.isStill) return notFound(reply);
    if (arrival.path !== undefined) return sendFile(request, reply, { path: arrival.path });
    return sendBytes(request, reply, arrival.sizeBytes, (take) => bytesOf(arrival, take));
  }
}

function sendBytes(
  { method }: FastifyRequest,
  reply: FastifyReply,
  sizeBytes: number,
  bytesIn: (take: TakeChunk) => AsyncGenerator<Buffer>,
): FastifyReply {
  reply.header('content-length', sizeBytes);
  if (method === 'HEAD') return reply.send();
  return reply.send(answerStream(reply.raw, bytesIn));
}

function clientOf(request: FastifyRequest): Client {
  const { headers, method } = request;
  return {
    isLocal: isLocalRequest(request),
    isNarswarm: headers['user-agent']?.startsWith('narswarm') === true,
    onlyAsks: method === 'HEAD',
    isSerial: isSerialNix(headers['user-agent']),
  };
}

function isSerialNix(userAgent = ''): boolean {
  const [, major, minor] = NIX.exec(userAgent)?.map(Number) ?? [];
  if (major === undefined || minor === undefined) return false;
  return major < PARALLEL_NIX.major || (major === PARALLEL_NIX.major && minor < PARALLEL_NIX.minor);
}

function wantedNar(name: string, { path, as }: NarQuery): WantedNar | undefined {
  const [, hash, extension = ''] = NAR.exec(name) ?? [];
  if (hash === undefined) return undefined;
  try {
    const storeHash = typeof path === 'string' && STORE_HASH.test(path) ? parseStoreHash(path) : undefined;
    return { fileHash: asFileHash(`sha256:${hash}`), extension, storeHash, isDecoded: as === 'nar' };
  } catch {
    return undefined; // letters that nix32 does not have
  }
}

/** Sends a file, or the part of it that was asked for. */
async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  { path, mtimeMs }: { readonly path: string; readonly mtimeMs?: number | undefined },
): Promise<FastifyReply> {
  const { size } = await stat(path);
  return sendPart(request, reply, size, (take, part) => fileBytes(path, take, part, mtimeMs));
}

/** Sends a body of that size, or the requested part of it. */
function sendPart(
  request: FastifyRequest,
  reply: FastifyReply,
  size: number,
  bytesIn: (take: TakeChunk, part: Part) => AsyncGenerator<Buffer>,
): FastifyReply {
  reply.header('accept-ranges', 'bytes');
  const { range } = request.headers;
  const ranges = range === undefined ? undefined : parseRange(size, range);
  if (ranges === -1) return reply.code(416).header('content-range', `bytes */${size}`).send();
  const [part] = Array.isArray(ranges) && ranges.type === 'bytes' && ranges.length === 1 ? ranges : [];
  const { start, end } = part ?? { start: 0, end: size - 1 };
  if (part !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end}/${size}`);
  return sendBytes(request, reply, end - start + 1, (take) => bytesIn(take, { start, end }));
}

/**
 * Answers a question that has failed, such as one for a NAR whose first byte is wrong. After other answers Nix would
 * try again.
 */
function errorHandler(_error: unknown, _request: FastifyRequest, reply: FastifyReply): void {
  void notFound(reply);
}

function notFound(reply: FastifyReply): FastifyReply {
  return reply.code(404).type('text/plain').send('not found\n');
}
