import assert from 'node:assert/strict';
import { test } from 'node:test';
import { predecessors } from '../../src/delta/predecessors.ts';
import { narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';

function infoOf(name: string, narSize: number, byte = 'a'): NarInfo {
  return {
    storePath: parseStorePath(`/nix/store/${byte.repeat(32)}-${name}`),
    url: 'nar/x',
    compression: 'none',
    narHash: narHashOf(Buffer.alloc(32)),
    narSize,
    references: [],
    signatures: [],
    extra: [],
  };
}

function names(before: readonly NarInfo[], after: readonly NarInfo[]): string[][] {
  return Array.from(predecessors(before, after), ([a, b]) => [a, b].map(({ storePath }) => storePath.slice(44)));
}

test('the predecessor is of the same package, and of the same output if its size is not far off', () => {
  const before = [infoOf('glibc-2.40', 30_000), infoOf('glibc-2.40-bin', 5000), infoOf('hello-1', 30_000)];
  const after = [infoOf('glibc-2.41', 31_000, 'b'), infoOf('glibc-2.41-bin', 6000, 'b'), infoOf('new-1', 10, 'b')];
  assert.deepEqual(names(before, after), [
    ['glibc-2.41', 'glibc-2.40'],
    ['glibc-2.41-bin', 'glibc-2.40-bin'],
  ]);
});

test('among several it is the nearest in size, then in the closure', () => {
  const sources = ['1', '2', '3'].map((byte, index) => infoOf('source', [100, 2000, 2000][index] ?? 0, byte));
  const found = predecessors(sources, [infoOf('first', 1, 'c'), infoOf('second', 1, 'c'), infoOf('source', 2100, 'd')]);
  assert.deepEqual(
    [...found.values()].map(({ storePath }) => storePath.charAt(11)),
    ['3'],
  );
});

test('a path that followers have already needs none', () => {
  assert.deepEqual(names([infoOf('hello-1', 10)], [infoOf('hello-1', 10)]), []);
});
