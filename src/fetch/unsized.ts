import { createHash } from 'node:crypto';
import PQueue from 'p-queue';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { FileHash, NarHash, StorePath } from '../nix/brands.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { hashContents } from '../store/nar-hash.ts';
import type { PartialSession } from '../store/session.ts';
import { storeError, systemCode } from '../store/store-error.ts';
import { extensionOf } from '../torrent/canonical.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { Progress } from './report.ts';

/** NARs fetched at a time: as many as of the others. */
const CONCURRENCY = 8;

interface UnsizedContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  readonly http: HttpClient;
  readonly upstreams: readonly Upstream[];
  readonly limit?: RateLimit | undefined;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/**
 * Fetches NARs whose narinfo has no FileHash or no FileSize (some caches give neither). Only an upstream can send
 * them; their signed NarHash is checked by decompressing, and what was found out is put into the narinfo.
 *
 * @returns the completed narinfos by store path, and what the first NAR failed of that could not be had: NAR_UNAVAILABLE
 *   with every upstream's failure, NIX_MISSING or INTERRUPTED
 * @throws STORE_FULL, STORE_UNWRITABLE at once
 */
export async function fetchUnsized(
  infos: readonly NarInfo[],
  context: UnsizedContext,
): Promise<{ completed: Map<StorePath, NarInfo>; failure: NarswarmError | undefined }> {
  const completed = new Map<StorePath, NarInfo>();
  const failures: NarswarmError[] = [];
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const fetch = async (info: NarInfo): Promise<void> => {
    if (signal.aborted) return;
    try {
      completed.set(info.storePath, await fetchFromAny(info, { ...context, signal }));
      context.progress.doneNars++;
    } catch (error) {
      if (isNarswarmError(error, 'NAR_UNAVAILABLE', 'NIX_MISSING')) failures.push(error);
      else stop.abort(error);
    }
  };
  await Promise.all(infos.map((info) => queue.add(() => fetch(info))));
  if (signal.aborted && !isNarswarmError(signal.reason, 'INTERRUPTED')) throw signal.reason;
  return { completed, failure: signal.aborted ? signal.reason : failures[0] };
}

async function fetchFromAny(info: NarInfo, context: UnsizedContext): Promise<NarInfo> {
  const failures: unknown[] = [];
  for (const upstream of context.upstreams) {
    try {
      return await fetchOne(info, upstream, context);
    } catch (error) {
      context.signal.throwIfAborted();
      // No other upstream makes up for these.
      if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE', 'NIX_MISSING')) throw error;
      failures.push(error);
    }
  }
  throw new NarswarmError(
    'NAR_UNAVAILABLE',
    `cannot fetch ${info.storePath}: its narinfo has no FileHash or FileSize, and no upstream delivers it`,
    {
      cause: new AggregateError(failures),
      facts: { path: info.storePath },
    },
  );
}

async function fetchOne(info: NarInfo, upstream: Upstream, context: UnsizedContext): Promise<NarInfo> {
  const { session, signal, store } = context;
  const path = session.path(`${storeHashOf(info.storePath)}.unsized`);
  try {
    const file = await download(info, upstream, path, context);
    const narHash = await narHashOfFile(path, info, signal);
    if (narHash !== info.narHash || (info.fileHash ?? file.fileHash) !== file.fileHash) {
      throw new NarswarmError(
        'HASH_MISMATCH',
        `${upstream.name} sent a NAR of ${info.storePath} with other contents than were signed`,
        { facts: { path: info.storePath } },
      );
    }
    const target = join(store.dir, FileStore.narUrl(file.fileHash, extensionOf(info.compression)));
    await inStore(rename(path, target), target);
    return { ...info, ...file };
  } catch (error) {
    // Nothing goes on from such a file: the next run begins anew.
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Writes what an upstream sends to a file. */
async function download(
  info: NarInfo,
  upstream: Upstream,
  path: string,
  { http, limit, progress, signal }: UnsizedContext,
): Promise<{ fileHash: FileHash; fileSize: number }> {
  const sha256 = createHash('sha256');
  let fileSize = 0;
  const handle = await inStore(open(path, 'w'), path);
  try {
    await http.download(upstream.narUrl(info.url), {
      signal,
      ...(info.fileSize === undefined ? {} : { sizeBytes: info.fileSize }),
      sink: async (bytes) => {
        sha256.update(bytes);
        fileSize += bytes.length;
        progress.onBytes('upstream', upstream.name, bytes.length);
        await inStore(handle.writeFile(bytes), path);
        await limit?.pace(bytes.length, signal);
      },
    });
  } finally {
    await inStore(handle.close(), path);
  }
  return { fileHash: fileHashOf(sha256.digest()), fileSize };
}

/** @throws HASH_MISMATCH where it cannot be decompressed; NIX_MISSING where the program for that is not there */
async function narHashOfFile(path: string, info: NarInfo, signal: AbortSignal): Promise<NarHash> {
  try {
    return (await hashContents(path, info.compression, info.narSize, signal)).narHash;
  } catch (error) {
    const program = info.compression;
    const isMissing = error instanceof Error && systemCode(error.cause) === 'ENOENT';
    if (!isMissing || (program !== 'xz' && program !== 'bzip2')) throw error;
    throw new NarswarmError(
      'NIX_MISSING',
      `there is no \`${program}\` in PATH, which it takes to check the NAR of ${info.storePath}: install ${program}`,
      { cause: error, facts: { path: info.storePath, program } },
    );
  }
}

/** @throws STORE_FULL, STORE_UNWRITABLE */
function inStore<T>(work: Promise<T>, path: string): Promise<T> {
  return work.catch((error: unknown) => Promise.reject(storeError(error, path)));
}
