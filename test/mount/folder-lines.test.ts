import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linesFrom } from '../../src/mount/folder-lines.ts';
import { listingReply, type Attributes, type Listed } from '../../src/mount/protocol.ts';

const attributesOf = (low: number): Attributes => ({
  node: { high: 2, low },
  kind: 'regular',
  isExecutable: false,
  sizeBytes: 0,
});
const first: readonly Listed[] = ['.', '..'].map((name) => ({ name, attributes: attributesOf(0) }));
const entries = new Map(Array.from({ length: 100_000 }, (_, index) => [String(index), index] as const));

test('a folder is listed from anywhere, each line once', () => {
  const all = [...linesFrom(0, first, entries, attributesOf)].map(({ name }) => name);
  assert.deepEqual(all, ['.', '..', ...entries.keys()]);
  for (const offset of [1, 2, 3, 50_000, 100_001, 100_002])
    assert.deepEqual(
      [...linesFrom(offset, first, entries, attributesOf)].map(({ name }) => name),
      all.slice(offset),
    );
});

test('a reply makes the lines that it has room for, however large the folder is', () => {
  let made = 0;
  const counted = (low: number): Attributes => {
    made++;
    return attributesOf(low);
  };
  const request = {
    kind: 'readdirplus',
    unique: 1n,
    node: { high: 2, low: 0 },
    offset: 60_000,
    size: 4_096,
  } as const;
  listingReply(1n, linesFrom(request.offset, first, entries, counted), request);
  assert.ok(made > 10 && made < 40, `${made} lines`);
});
