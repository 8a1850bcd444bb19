/** Paths that no Nix has built, with as many bytes and references as a test or a measurement wants. Nothing is signed. */
import { createHash, hash } from 'node:crypto';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StorePath } from '../../src/nix/brands.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { baseNameOf, storePathFromBaseName } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';

/** The path that {@link addPath} makes for a name. */
export function pathNamed(name: string): StorePath {
  return storePathFromBaseName(`${encodeNix32(hash('sha1', name, 'buffer'))}-${name}`);
}

export interface Made {
  /** Names of other paths. */
  readonly refersTo?: readonly string[];
  readonly bytes?: number;
  /** Paths with the same contents share a NAR. Default: the name. */
  readonly contents?: string;
  /** When its NAR was written, milliseconds since 1970. Default: an hour ago. */
  readonly atMs?: number;
  /** Whether the NAR is there. Default: true. */
  readonly hasNar?: boolean;
}

/** Puts a path into a store, with a NAR of zeros that begins with its contents. */
export async function addPath(store: FileStore, name: string, made: Made = {}): Promise<NarInfo> {
  const nar = Buffer.alloc(made.bytes ?? 1000);
  nar.write(made.contents ?? name);
  const fileHash = fileHashOf(createHash('sha256').update(nar).digest());
  const info: NarInfo = {
    storePath: pathNamed(name),
    url: FileStore.narUrl(fileHash, ''),
    compression: 'none',
    fileHash,
    fileSize: nar.length,
    narHash: narHashOf(createHash('sha256').update(nar).digest()),
    narSize: nar.length,
    references: (made.refersTo ?? []).map((other) => baseNameOf(pathNamed(other))),
    signatures: [],
    extra: [],
  };
  if (made.hasNar !== false) {
    const at = (made.atMs ?? Date.now() - 3_600_000) / 1000;
    await writeFile(store.narPath(info), nar);
    await utimes(store.narPath(info), at, at);
  }
  await store.rewriteNarInfo(info);
  return info;
}

/** Records that a NAR was served at that time. */
export async function serveAt(store: FileStore, info: NarInfo, atMs: number): Promise<void> {
  const folder = join(store.stateDir, 'served');
  await mkdir(folder, { recursive: true });
  const path = join(folder, info.url.slice('nar/'.length));
  await writeFile(path, '');
  await utimes(path, atMs / 1000, atMs / 1000);
}
