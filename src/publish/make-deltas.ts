import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import PQueue from 'p-queue';
import { applyPatch, type Base } from '../delta/apply.ts';
import { makePatch } from '../delta/make.ts';
import { PatchList, type KeptPatch } from '../store/patch-list.ts';
import { predecessors } from '../delta/predecessors.ts';
import { PATCH_EXTENSION, withDeltas } from '../delta/record.ts';
import { isNarswarmError } from '../errors.ts';
import { referencesFirst } from '../fetch/walk/closure.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { narHashOf } from '../nix/hash.ts';
import { baseNameOf, storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { hashNar } from '../store/hashing/hash-nar.ts';
import { hashContents, readContents } from '../store/hashing/nar-contents.ts';
import { narTorrent } from '../torrent/canonical.ts';
import { temporaryBeside } from '../disk/replace.ts';

/** A patch is worth its place in the hash map if it is smaller than this part of the NAR's file. */
export const WORTH_PART = 0.6;
/** Memory that making one patch takes: two windows, a part, and the tables of zstd. */
const MAKER_BYTES = 512 * 1024 * 1024;

/** A NAR, and the base of its patch. */
export interface PatchPair {
  readonly info: NarInfo;
  readonly base: NarInfo;
}

/** The making of patches, for people. */
export type PatchEvent =
  /** `bytes` of NARs for which patches are made. */
  | { readonly type: 'making-patches'; readonly patches: number; readonly bytes: number }
  | { readonly type: 'bytes-patched'; readonly bytes: number }
  | { readonly type: 'patch-made' };

export interface PatchesMade {
  /** Patches that were made now. */
  readonly patches: number;
  /** Bytes of these patches, and of the files that they take the place of. */
  readonly patchBytes: number;
  readonly fileBytes: number;
  /** NARs whose patch would have been too large. */
  readonly vain: number;
  /** NARs whose file, or that of the base, does not have the signed contents. */
  readonly damaged: number;
}

/**
 * Finds the pairs for which no patch was made before, those that save most first.
 *
 * @param earlier closures that followers may have
 */
export async function pairsToPatch(
  records: readonly NarInfo[],
  earlier: readonly (readonly NarInfo[])[],
  { store, list }: { readonly store: FileStore; readonly list: PatchList },
): Promise<PatchPair[]> {
  const pairs = new Map<string, PatchPair>();
  for (const before of earlier) {
    for (const [info, { storePath }] of predecessors(inOrder(before), inOrder(records))) {
      const base = await store.readNarInfo(storeHashOf(storePath)).catch(() => undefined);
      if (base === undefined || (await store.statNar(base)) === undefined || info.fileSize === undefined) continue;
      if (!list.isDone({ ...info, baseNarHash: base.narHash }))
        pairs.set(`${info.storePath} ${base.narHash}`, { info, base });
    }
  }
  return [...pairs.values()].toSorted((a, b) => (b.info.fileSize ?? 0) - (a.info.fileSize ?? 0));
}

/**
 * Makes patches. Each is in the list once it is made: a run that is interrupted is continued by the next one.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function makePatches(
  pairs: readonly PatchPair[],
  context: {
    readonly store: FileStore;
    readonly list: PatchList;
    readonly tell: (event: PatchEvent) => void;
    readonly signal: AbortSignal;
  },
): Promise<PatchesMade> {
  const { tell, signal } = context;
  const sums = { patches: 0, patchBytes: 0, fileBytes: 0, vain: 0, damaged: 0 };
  if (pairs.length === 0) return sums;
  tell({
    type: 'making-patches',
    patches: pairs.length,
    bytes: pairs.reduce((sum, { info }) => sum + info.narSize, 0),
  });
  const concurrency = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 4 / MAKER_BYTES)));
  const queue = new PQueue({ concurrency });
  await Promise.all(
    pairs.map((pair) =>
      queue.add(async () => {
        signal.throwIfAborted();
        const patch = await patchOf(pair, context);
        tell({ type: 'patch-made' });
        if (patch === 'vain' || patch === 'damaged') sums[patch]++;
        else {
          sums.patches++;
          sums.patchBytes += patch.torrent.sizeBytes;
          sums.fileBytes += pair.info.fileSize ?? 0;
        }
      }),
    ),
  );
  return sums;
}

/** Returns a record with the patches that are here. */
export function withKeptPatches(record: NarInfo, list: PatchList): NarInfo {
  const { narHash, fileSize = 0 } = record;
  const fitting = list
    .of(record.storePath)
    .filter((patch) => patch.narHash === narHash && patch.torrent.sizeBytes < fileSize * WORTH_PART);
  return fitting.length === 0 ? record : withDeltas(record, fitting);
}

/** Makes one patch, and checks that it gives the NAR. `vain` if it is not worth it; `damaged` if a file is. */
async function patchOf(
  { info, base }: PatchPair,
  {
    store,
    list,
    tell,
    signal,
  }: {
    readonly store: FileStore;
    readonly list: PatchList;
    readonly tell: (event: PatchEvent) => void;
    readonly signal: AbortSignal;
  },
): Promise<KeptPatch | 'vain' | 'damaged'> {
  const path = temporaryBeside(join(store.stateDir, info.narHash));
  const { storePath, narHash, fileSize = 0 } = info;
  const pair = { storePath, narHash, baseNarHash: base.narHash };
  try {
    const target = { narSize: info.narSize, nar: counted(narOf(info, store, signal).nar, tell) };
    const maxBytes = Math.ceil(fileSize * WORTH_PART) - 1;
    if (!(await hasSignedContents(base, store, signal))) return 'damaged';
    const sizeBytes = await makePatch(narOf(base, store, signal), target, { path, maxBytes, signal });
    if (sizeBytes === undefined) {
      await list.add({ ...pair, isVain: true });
      return 'vain';
    }
    if (!(await gives(path, info, narOf(base, store, signal), signal))) return 'damaged';
    const hashes = await hashNar(path, signal);
    if (hashes === undefined) return 'damaged';
    const torrent = narTorrent({ ...hashes, extension: PATCH_EXTENSION });
    const patch = { ...pair, baseName: baseNameOf(base.storePath), baseNarSize: base.narSize, torrent };
    await list.place(path, patch);
    return patch;
  } catch (error) {
    signal.throwIfAborted();
    if (isNarswarmError(error, 'HASH_MISMATCH')) return 'damaged';
    throw error;
  } finally {
    await rm(path, { force: true });
  }
}

/** Returns true if a patch gives the signed NAR. Patches are published only after this test. */
async function gives(path: string, { narHash, narSize }: NarInfo, base: Base, signal: AbortSignal): Promise<boolean> {
  const sha256 = createHash('sha256');
  for await (const bytes of applyPatch(path, base, { narSize, signal })) sha256.update(bytes);
  return narHashOf(sha256.digest()) === narHash;
}

/** Returns true if the file of a base holds its NAR: followers have that one. */
async function hasSignedContents(base: NarInfo, store: FileStore, signal: AbortSignal): Promise<boolean> {
  const { narHash } = await hashContents(store.narPath(base), base.compression, base.narSize, signal);
  return narHash === base.narHash;
}

function narOf(info: NarInfo, store: FileStore, signal: AbortSignal): Base {
  return { narSize: info.narSize, nar: readContents(store.narPath(info), info.compression, info.narSize, signal) };
}

async function* counted(nar: AsyncIterable<Buffer>, tell: (event: PatchEvent) => void): AsyncGenerator<Buffer> {
  for await (const bytes of nar) {
    yield bytes;
    tell({ type: 'bytes-patched', bytes: bytes.length });
  }
}

/** Orders paths by their place in the closure: shards are in the order of their hashes. */
function inOrder(records: readonly NarInfo[]): NarInfo[] {
  return referencesFirst(new Map(records.map((record) => [storeHashOf(record.storePath), record])));
}
