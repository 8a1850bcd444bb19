import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placesOf } from '../../../src/fetch/import/import-order.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import { parseStorePath, storeHashOf } from '../../../src/nix/store-path.ts';
import { readNarInfo, TOP } from '../../nix/fixtures.ts';
import { closureOf } from '../walk/closure-of.ts';

const baseName = (name: string): string => `${name.repeat(32)}-${name}`;
const made = (name: string, narSize: number, references: readonly string[]): NarInfo => ({
  ...parseNarInfo(readNarInfo(TOP)),
  storePath: parseStorePath(`/nix/store/${baseName(name)}`),
  narSize,
  references: references.map(baseName),
});

test('places what most bytes wait for first, and references before their referrers', () => {
  const [root, self, long, libc, small] = [
    made('r', 10, ['s', 'l', 'm']),
    made('s', 1, ['s', 'c']),
    made('l', 50, ['c']),
    made('c', 30, []),
    made('m', 9, []),
  ];
  const places = placesOf(closureOf(root, self, long, libc, small));
  const inOrder = [libc, long, small, self, root];
  assert.deepEqual(
    inOrder.map(({ storePath }) => places.get(storeHashOf(storePath))),
    [0, 0.3, 0.8, 0.89, 0.9],
  );
});
