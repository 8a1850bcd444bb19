import { createHash, hash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import type { FileHash } from '../../nix/brands.ts';
import { isAddressedBesideNarHash } from '../../nix/content-address.ts';
import { asNarHash, fileHashOf } from '../../nix/hash.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { pieceLengthOf } from '../../torrent/canonical.ts';
import type { FoundNarHash } from '../catalogue/catalogue-entry.ts';
import { findNarHash } from './find-nar-hash.ts';
import { storeError, systemCode, inStore } from '../../disk/store-error.ts';

/** Hashes of a NAR file, computed in one pass. */
export interface NarHashes {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  /** SHA-1 of each piece of the canonical torrent, concatenated. */
  readonly pieces: Uint8Array;
  /** NarHash of the decompressed file, if {@link NarContents} was given. */
  readonly narHash?: FoundNarHash | undefined;
}

/** How to decompress a NAR file in order to hash its contents, too. */
export interface NarContents {
  /** The compression named by the narinfo. */
  readonly compression: string;
  /** NarSize. Decompression stops at this size. */
  readonly narSize: number;
  /** A content address that the contents must also match. If they do not, there is no NarHash. */
  readonly address?: Pick<NarInfo, 'storePath' | 'ca'> | undefined;
  /** Nice value of the program that decompresses. Default: that of the thread. */
  readonly nice?: number;
}

/** Returns how to decompress the NAR of a narinfo. */
export function narContentsOf(info: NarInfo): NarContents {
  const { compression, narSize, storePath, ca } = info;
  return { compression, narSize, ...(isAddressedBesideNarHash(info) ? { address: { storePath, ca: ca ?? '' } } : {}) };
}

/**
 * Hashes a NAR file as {@link hashNar} does; with `contents`, computes its NarHash, too. Returns undefined for a file
 * that is removed or replaced meanwhile.
 *
 * @throws STORE_UNWRITABLE if it cannot be read; NIX_MISSING if the program that decompresses it is missing
 */
export async function readNar(
  path: string,
  contents: NarContents | undefined,
  signal?: AbortSignal,
): Promise<NarHashes | undefined> {
  const hashes = await hashNar(path, signal);
  if (hashes === undefined || contents === undefined) return hashes;
  // Bytes after the NAR do not belong to it.
  const isWhole = isNarItself(contents) && hashes.sizeBytes <= contents.narSize;
  if (isWhole) return { ...hashes, narHash: asNarHash(hashes.fileHash) };
  const narHash = await findNarHash(path, contents, signal);
  const now = await stat(path).catch(() => undefined);
  if (now?.size !== hashes.sizeBytes || Math.floor(now.mtimeMs) !== hashes.mtimeMs) return undefined;
  return { ...hashes, narHash };
}

/** Returns true if the file is the NAR itself: then one pass computes all hashes. */
export function isNarItself({ compression, address }: NarContents): boolean {
  return compression === 'none' && address === undefined;
}

/**
 * Reads a NAR file once, and computes its SHA-256 and the SHA-1 of its pieces. Holds one piece at a time in memory.
 * Returns undefined if there is no such file.
 *
 * @throws STORE_UNWRITABLE if it cannot be read
 */
export async function hashNar(path: string, signal?: AbortSignal): Promise<NarHashes | undefined> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeError(error, path);
  });
  if (handle === undefined) return undefined;
  try {
    const { size, mtimeMs } = await handle.stat();
    const piece = Buffer.allocUnsafe(Math.min(size, pieceLengthOf(size)));
    const sha256 = createHash('sha256');
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < size;) {
      signal?.throwIfAborted();
      const { bytesRead } = await inStore(handle.read(piece, 0, piece.length, at), path); // EIO: the disk cannot return it
      if (bytesRead === 0) break;
      const bytes = piece.subarray(0, bytesRead);
      sha256.update(bytes);
      pieces.push(hash('sha1', bytes, 'buffer'));
      at += bytesRead;
    }
    return {
      fileHash: fileHashOf(sha256.digest()),
      sizeBytes: size,
      mtimeMs: Math.floor(mtimeMs),
      pieces: alone(pieces),
    };
  } finally {
    await handle.close();
  }
}

/**
 * Copies small buffers out of Node's pool. Otherwise a message to another thread would copy and keep its whole 64 KiB.
 */
function alone(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Returns true if the file at `path` is the NAR with that FileHash and FileSize. Reads the whole file. */
export async function isSameNar(path: string, expected: { fileHash: FileHash; sizeBytes: number }): Promise<boolean> {
  const handle = await open(path, 'r').catch(() => undefined);
  if (handle === undefined) return false;
  try {
    if ((await handle.stat()).size !== expected.sizeBytes) return false;
    const sha256 = createHash('sha256');
    for await (const chunk of handle.createReadStream({ highWaterMark: 1 << 20, autoClose: false }))
      sha256.update(chunk as Buffer);
    return fileHashOf(sha256.digest()) === expected.fileHash;
  } finally {
    await handle.close();
  }
}
