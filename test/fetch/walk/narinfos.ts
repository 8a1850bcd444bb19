/** Narinfos of paths that nobody built, for tests that move no bytes. */
import { createHash } from 'node:crypto';
import type { StoreHash } from '../../../src/nix/brands.ts';
import { fileHashOf, narHashOf } from '../../../src/nix/hash.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { parseStoreHash, storePathFromBaseName } from '../../../src/nix/store-path.ts';

/** Derives a store hash from a name. */
export function hashOf(name: string): StoreHash {
  return parseStoreHash(encodeNix32(createHash('sha256').update(name).digest().subarray(0, 20)));
}

/** Makes an unsigned narinfo of a path of that name, which refers to the paths of these names. */
export function infoOf(name: string, references: readonly string[] = [], rest: Partial<NarInfo> = {}): NarInfo {
  const digest = createHash('sha256').update(`nar of ${name}`).digest();
  const fileHash = fileHashOf(digest);
  return {
    storePath: storePathFromBaseName(`${hashOf(name)}-${name}`),
    url: `nar/${fileHash}.nar.xz`,
    compression: 'xz',
    fileHash,
    fileSize: 100,
    narHash: narHashOf(digest),
    narSize: 200,
    references: references.map((reference) => `${hashOf(reference)}-${reference}`),
    signatures: [],
    extra: [],
    ...rest,
  };
}
