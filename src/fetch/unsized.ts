import { createHash } from 'node:crypto';
import PQueue from 'p-queue';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { hashContents } from '../store/nar-hash.ts';
import type { PartialSession } from '../store/session.ts';
import { storeError } from '../store/store-error.ts';
import { extensionOf } from '../torrent/canonical.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import type { HttpClient } from './http/client.ts';
import type { Upstream } from './http/upstream.ts';
import type { Progress } from './report.ts';

/** NARs fetched at a time: as many as of the others. */
const CONCURRENCY = 8;

/**
 * Fetches NARs whose narinfo has no FileHash or no FileSize (some caches give neither). Only an upstream can send
 * them; their signed NarHash is checked by decompressing, and what was found out is put into the narinfo.
 *
 * @returns the completed narinfos by store path
 * @throws NAR_UNAVAILABLE with every upstream's failure
 */
export async function fetchUnsized(
  infos: readonly NarInfo[],
  context: {
    store: FileStore;
    session: PartialSession;
    http: HttpClient;
    upstreams: readonly Upstream[];
    limit?: RateLimit | undefined;
    progress: Progress;
    signal: AbortSignal;
  },
): Promise<Map<StorePath, NarInfo>> {
  const completed = new Map<StorePath, NarInfo>();
  const fetch = async (info: NarInfo): Promise<void> => {
    const failures: unknown[] = [];
    for (const upstream of context.upstreams) {
      try {
        completed.set(info.storePath, await fetchOne(info, upstream, context));
        break;
      } catch (error) {
        context.signal.throwIfAborted();
        failures.push(error);
      }
    }
    if (!completed.has(info.storePath)) {
      throw new NarswarmError(
        'NAR_UNAVAILABLE',
        `cannot fetch ${info.storePath}: its narinfo has no FileHash or FileSize, and no upstream delivers it`,
        {
          cause: new AggregateError(failures),
          facts: { path: info.storePath },
        },
      );
    }
    context.progress.doneNars++;
  };
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const results = await Promise.allSettled(infos.map((info) => queue.add(() => fetch(info))));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return completed;
}

async function fetchOne(
  info: NarInfo,
  upstream: Upstream,
  context: Parameters<typeof fetchUnsized>[1],
): Promise<NarInfo> {
  const path = context.session.path(`${storeHashOf(info.storePath)}.unsized`);
  const sha256 = createHash('sha256');
  let fileSize = 0;
  const handle = await open(path, 'w').catch((error: unknown) => Promise.reject(storeError(error, path)));
  try {
    await context.http.download(upstream.narUrl(info.url), {
      signal: context.signal,
      ...(info.fileSize === undefined ? {} : { sizeBytes: info.fileSize }),
      sink: async (bytes) => {
        sha256.update(bytes);
        fileSize += bytes.length;
        context.progress.onBytes('upstream', upstream.name, bytes.length);
        await handle.write(bytes).catch((error: unknown) => Promise.reject(storeError(error, path)));
        await context.limit?.pace(bytes.length, context.signal);
      },
    });
  } finally {
    await handle.close();
  }
  const fileHash = fileHashOf(sha256.digest());
  const { narHash } = await hashContents(path, info.compression, info.narSize, context.signal);
  if (narHash !== info.narHash || (info.fileHash ?? fileHash) !== fileHash) {
    await unlink(path);
    throw new NarswarmError(
      'HASH_MISMATCH',
      `${upstream.name} sent a NAR of ${info.storePath} with other contents than were signed`,
      { facts: { path: info.storePath } },
    );
  }
  await rename(path, join(context.store.dir, FileStore.narUrl(fileHash, extensionOf(info.compression))));
  return { ...info, fileHash, fileSize };
}
