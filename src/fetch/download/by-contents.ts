import { createHash } from 'node:crypto';
import PQueue from 'p-queue';
import { open, rm } from 'node:fs/promises';
import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { FileHash, StorePath } from '../../nix/brands.ts';
import { maxFileBytes } from '../../nix/file-bound.ts';
import { fileHashOf } from '../../nix/hash.ts';
import type { FileDescription, NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { FileStore } from '../../store/file-store.ts';
import { hashContents, type NarContentsFound } from '../../store/hashing/nar-contents.ts';
import type { PartialSession } from '../../store/session.ts';
import { systemCode, inStore } from '../../disk/store-error.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { RETRIES_WITH_ALTERNATIVE } from '../sources/narinfo-sources.ts';
import { bytesFrom, type Tell } from '../events.ts';
import { reasonsOf } from '../scheduler/task.ts';

/** NARs that are fetched at the same time, as many as in the ordinary lanes. */
const CONCURRENCY = 8;

export interface ByContentsContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  readonly http: HttpClient;
  /** Returns the upstreams to ask for a narinfo's file, in order. */
  readonly upstreamsOf: (info: NarInfo) => readonly Upstream[];
  /** True if other sources may have the NAR: then a stalled upstream gets no retry. */
  readonly givesWay: boolean;
  readonly limit?: DirectionLimit | undefined;
  /** Called with an upstream that sent a NAR with other contents than signed. */
  readonly onLie?: ((upstream: Upstream) => void) | undefined;
  /** Called with each narinfo as soon as its NAR is in the store. */
  readonly onFetched?: ((infos: readonly NarInfo[]) => void) | undefined;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/**
 * Fetches NARs with a missing or useless FileHash or FileSize. Some caches give neither, others give wrong ones for
 * files that were compressed again. As in Nix, only NarHash decides whether a file is right. Only upstreams can send
 * these NARs. Reads no more bytes than a file of that NarSize can have.
 *
 * @returns the narinfos with the files that were found, by store path; and the failures of the others: NAR_UNAVAILABLE
 *   with every upstream's failure, NIX_MISSING. After an interruption some are in neither.
 * @throws STORE_FULL, STORE_UNWRITABLE at once
 */
export async function fetchByContents(
  infos: readonly NarInfo[],
  context: ByContentsContext,
): Promise<{ completed: Map<StorePath, NarInfo>; failures: Map<StorePath, NarswarmError> }> {
  const completed = new Map<StorePath, NarInfo>();
  const failures = new Map<StorePath, NarswarmError>();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const fetch = async (info: NarInfo): Promise<void> => {
    if (signal.aborted) return;
    try {
      const found = await fetchFromAny(info, { ...context, signal });
      completed.set(info.storePath, found);
      context.tell({ type: 'nar-fetched', nar: info.storePath, sizeBytes: found.fileSize ?? 0 });
      context.onFetched?.([found]);
    } catch (error) {
      if (isNarswarmError(error, 'NAR_UNAVAILABLE', 'NIX_MISSING')) failures.set(info.storePath, error);
      else stop.abort(error);
    }
  };
  await Promise.all(infos.map((info) => queue.add(() => fetch(info))));
  if (signal.aborted && !isNarswarmError(signal.reason, 'INTERRUPTED')) throw signal.reason;
  return { completed, failures };
}

async function fetchFromAny(info: NarInfo, context: ByContentsContext): Promise<NarInfo> {
  const failures: unknown[] = [];
  for (const upstream of context.upstreamsOf(info)) {
    try {
      return await fetchOne(info, upstream, context);
    } catch (error) {
      context.signal.throwIfAborted();
      // Another upstream does not help with these failures.
      if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE', 'NIX_MISSING')) throw error;
      if (isNarswarmError(error, 'HASH_MISMATCH')) context.onLie?.(upstream);
      failures.push(error);
    }
  }
  const cause = new AggregateError(failures);
  const reason = failures.length === 0 ? 'only an upstream could send it' : reasonsOf(cause);
  throw new NarswarmError('NAR_UNAVAILABLE', `cannot fetch ${info.storePath}: ${reason}`, {
    cause,
    facts: { path: info.storePath, why: reason },
  });
}

async function fetchOne(info: NarInfo, upstream: Upstream, context: ByContentsContext): Promise<NarInfo> {
  const { session, signal, store } = context;
  const path = session.path(`${storeHashOf(info.storePath)}.unsized`);
  try {
    const file = await download(info, upstream, path, context);
    const { narHash, narSize, compression } = await contentsOfFile(path, info, upstream, signal);
    if (narHash !== info.narHash || narSize !== info.narSize) throw wrongContents(info, upstream);
    const description: FileDescription = {
      ...file,
      compression,
      url: FileStore.narUrl(file.fileHash, extensionOf(compression)),
    };
    await store.placeNar(path, { ...info, ...description });
    return { ...info, ...description };
  } catch (error) {
    // Such a file cannot be continued: the next run starts again.
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Writes an upstream's body to a file. @throws SIZE_MISMATCH for more bytes than a NAR of that NarSize can have */
async function download(
  info: NarInfo,
  upstream: Upstream,
  path: string,
  { http, limit, tell, signal, givesWay }: ByContentsContext,
): Promise<{ fileHash: FileHash; fileSize: number }> {
  const sha256 = createHash('sha256');
  const maxBytes = maxFileBytes(info.narSize);
  let fileSize = 0;
  const url = upstream.narUrl(info.url);
  const { hostname } = new URL(url);
  const handle = await inStore(open(path, 'w'), path);
  try {
    await http.download(url, {
      linkedFrom: upstream.url,
      isAnnounced: upstream.isAnnounced,
      signal,
      givesWay,
      retries: givesWay ? RETRIES_WITH_ALTERNATIVE : undefined,
      sink: async (bytes) => {
        sha256.update(bytes);
        fileSize += bytes.length;
        if (fileSize > maxBytes) throw tooLong(info, upstream, maxBytes);
        tell(bytesFrom(upstream, info.storePath, bytes.length));
        await inStore(handle.writeFile(bytes), path);
        await limit?.towards(hostname).pace(bytes.length, signal);
      },
    });
  } finally {
    await inStore(handle.close(), path);
  }
  return { fileHash: fileHashOf(sha256.digest()), fileSize };
}

function tooLong({ storePath, narSize }: NarInfo, upstream: Upstream, maxBytes: number): NarswarmError {
  return new NarswarmError(
    'SIZE_MISMATCH',
    `${upstream.name} sends more than ${maxBytes} bytes for ${storePath}, whose NAR has ${narSize}`,
    {
      facts: {
        path: storePath,
        upstream: upstream.name,
        why: `${upstream.name} sends more than ${maxBytes} bytes for it, whose NAR has ${narSize}`,
      },
    },
  );
}

/** @throws HASH_MISMATCH if it cannot be decompressed; NIX_MISSING if the program for that is missing */
async function contentsOfFile(
  path: string,
  info: NarInfo,
  upstream: Upstream,
  signal: AbortSignal,
): Promise<NarContentsFound> {
  try {
    return await hashContents(path, info.compression, info.narSize, signal);
  } catch (error) {
    if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
    const { program } = error.facts;
    const isMissing = systemCode(error.cause) === 'ENOENT';
    if (!isMissing || program === undefined) throw wrongContents(info, upstream, error);
    const missing = (nar: string): string =>
      `there is no \`${program}\` in PATH, which is needed to check ${nar}: install ${program}`;
    throw new NarswarmError('NIX_MISSING', missing(`the NAR of ${info.storePath}`), {
      cause: error,
      facts: { path: info.storePath, program, why: missing('its NAR') },
    });
  }
}

function wrongContents({ storePath }: NarInfo, upstream: Upstream, cause?: unknown): NarswarmError {
  const sent = (path: string): string => `${upstream.name} sent a NAR of ${path} with other contents than were signed`;
  return new NarswarmError('HASH_MISMATCH', sent(storePath), {
    ...(cause === undefined ? {} : { cause }),
    facts: { path: storePath, upstream: upstream.name, why: sent('it') },
  });
}
