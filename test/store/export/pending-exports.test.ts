import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { asFileHash, asNarHash } from '../../../src/nix/hash.ts';
import type { PathInfo } from '../../../src/nix/path-info.ts';
import { baseNameOf, parseStorePath } from '../../../src/nix/store-path.ts';
import type { FolderNar } from '../../../src/store/export/export-folder.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PendingExports } from '../../../src/store/export/pending-exports.ts';
import { narTorrent } from '../../../src/torrent/canonical.ts';

const HASHES = ['1', '2', '3'].map((digit) => `0${digit.repeat(51)}`);

/** The nth path; it refers to itself and to the ones before. */
function pathInfo(index: number): PathInfo {
  const paths = HASHES.map((hash, at) => parseStorePath(`/nix/store/${hash.slice(0, 32)}-path-${at}`));
  return {
    storePath: paths[index]!,
    narHash: asNarHash(HASHES[index]!),
    narSize: 100,
    references: paths.slice(0, index + 1).map(baseNameOf),
    signatures: [],
  };
}

function narOf({ narHash }: PathInfo): FolderNar {
  const torrent = narTorrent({
    fileHash: asFileHash(narHash),
    extension: 'zst',
    sizeBytes: 10,
    pieces: Buffer.alloc(20),
  });
  return { narHash, torrent, path: '' };
}

test('a narinfo waits for the NARs of its references, whichever is complete first', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-'));
  try {
    const store = await FileStore.open(dir, { create: true });
    const paths = [0, 1, 2].map(pathInfo);
    const listed: string[] = [];
    const pending = new PendingExports(paths, {
      store,
      folder: { place: async ({ torrent }) => ({ url: `nar/${torrent.name}`, mtimeMs: 1 }) },
      catalogue: { add: async (entries) => void listed.push(...[...entries].map(({ storePath }) => storePath)) },
      compression: 'zstd',
      complete: (info) => info,
    });
    const written = (): string[] => pending.written.map(({ storePath }) => storePath);
    await pending.take(narOf(paths[2]!));
    await pending.take(narOf(paths[1]!));
    await pending.commit();
    assert.deepEqual([written(), await store.listStoreHashes(), pending.addedBytes], [[], [], 0]);
    await pending.take(narOf(paths[0]!));
    await pending.commit();
    const all = paths.map(({ storePath }) => storePath);
    assert.deepEqual([written(), listed], [all, all]);
    assert.deepEqual([pending.addedBytes, pending.addedNarBytes], [30, 300]);
  } finally {
    await rm(dir, { recursive: true });
  }
});
