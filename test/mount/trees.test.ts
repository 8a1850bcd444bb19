import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { assert as check, json, property, uint8Array } from 'fast-check';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { MAX_LISTING_BYTES, parseListing } from '../../src/mount/listing.ts';
import { Listings } from '../../src/mount/listings.ts';
import { Tree, TreeBuilder } from '../../src/mount/tree.ts';
import { Trees } from '../../src/mount/trees.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';

const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const file = { type: 'regular', size: 1 };
const listing = (root: unknown): Tree | undefined => parseListing(text({ version: 1, root }));

test('a listing becomes a tree whose nodes are in the order of their names as bytes', () => {
  const tree = listing({
    type: 'directory',
    entries: { ü: file, b: { type: 'symlink', target: 'a' }, 10: file, a: { type: 'directory', entries: { x: file } } },
  });
  assert.deepEqual(
    tree?.nodes.map(({ name, parent }) => [Buffer.from(name, 'latin1').toString(), parent]),
    [
      ['', 0],
      ['10', 0],
      ['a', 0],
      ['x', 2],
      ['b', 0],
      ['ü', 0],
    ],
  );
});

test('a listing that names what no folder has is no listing', () => {
  for (const name of ['', '.', '..', 'a/b', '/', 'a\0', 'x'.repeat(256)])
    assert.equal(listing({ type: 'directory', entries: { [name]: file } }), undefined, JSON.stringify(name));
  for (const size of [-1, 0.5, 2 ** 53, '1', null]) assert.equal(listing({ type: 'regular', size }), undefined);
  for (const target of ['', 'a\0b', 'x'.repeat(4_096), 1])
    assert.equal(listing({ type: 'symlink', target }), undefined);
  let deep: unknown = file;
  for (let depth = 0; depth < 1_001; depth++) deep = { type: 'directory', entries: { x: deep } };
  assert.equal(listing(deep), undefined);
  assert.equal(parseListing(text({ version: 2, root: file })), undefined);
  assert.ok(MAX_LISTING_BYTES >= 1e6);
});

test('a link stays in its tree only if no other link can lead it out', () => {
  const links = {
    in: ['file', 'c/d', '../file', '.././c', './/c'],
    out: ['/file', '../..', '../../other', 'c/..', 'c/../../x', '../c/..'],
  };
  const builder = new TreeBuilder();
  builder.beginFolder('');
  builder.beginFolder('folder');
  const all = [...links.in, ...links.out];
  for (const [index, target] of all.entries()) builder.symlink(String.fromCharCode(97 + index), target);
  builder.endFolder();
  builder.symlink('link', '..');
  builder.endFolder();
  const tree = builder.build();
  const out = tree.nodes.flatMap((node) => (node.kind === 'symlink' && tree.leadsOut(node) ? [node.target] : []));
  assert.deepEqual(out, [...links.out, '..']);
  const root = new TreeBuilder();
  root.symlink('', 'other');
  const [link] = root.build().nodes;
  assert.ok(link?.kind === 'symlink' && root.build().leadsOut(link), 'beside it are other paths');
});

test('a listing of more than 600,000 objects is no listing, however short it is', () => {
  const listingOf = (folders: number): Buffer => {
    const entries = Array.from({ length: folders }, (_, index) => `"${index.toString(36)}":{"type":"directory"}`);
    return Buffer.from(`{"version":1,"root":{"type":"directory","entries":{${entries.join(',')}}}}`);
  };
  assert.equal(parseListing(listingOf(1_000))?.nodes.length, 1_001);
  const bytes = listingOf(600_000);
  assert.ok(bytes.length < MAX_LISTING_BYTES);
  assert.ok(parseListing(bytes) === undefined);
});

test('a listing of values that are no nodes is no listing, and takes no memory for each of them', () => {
  const entries = (some: string): Tree | undefined =>
    parseListing(Buffer.from(`{"version":1,"root":{"type":"directory","entries":${some}}}`));
  assert.equal(entries('{}')?.nodes.length, 1);
  for (const some of ['[]', '[{"type":"directory"}]', '""', '"ab"', 'null', '7', '{"a":0}'])
    assert.equal(entries(some), undefined, some);
  const bytes = Buffer.from(`{"version":1,"root":[${'[],'.repeat(10_000_000)}0]}`);
  assert.ok(bytes.length < MAX_LISTING_BYTES);
  const before = process.resourceUsage().maxRSS;
  assert.ok(parseListing(bytes) === undefined);
  const grownKb = process.resourceUsage().maxRSS - before; // 900 MB if they are made
  assert.ok(grownKb < 300_000, `${grownKb} kB`);
});

test('a listing is no larger than its NAR allows', async () => {
  const tree = JSON.stringify({ version: 1, root: { type: 'directory', entries: {} } });
  const server = createServer((_, response) => response.end(tree.padEnd(10_000))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await using http = new HttpClient();
  const listings = new Listings([parseUpstream(url)], http, new AbortController().signal);
  const storePath = parseStorePath(`/nix/store/${'a'.repeat(32)}-x`);
  const nodes: number[] = [];
  const find = (narSize: number): Promise<boolean> =>
    listings.find({ storePath, narSize }, async (found) => void nodes.push(found.nodes.length));
  assert.equal(await find(112), false);
  assert.equal(await find(2_000), true);
  assert.deepEqual(nodes, [1]);
  server.close();
});

test('no listing makes the parser throw', () => {
  check(property(uint8Array(), (bytes) => parseListing(bytes) === undefined));
  check(property(json(), (some) => void parseListing(new TextEncoder().encode(some))));
});

/** A tree of so many nodes. */
function treeOf(nodes: number): Tree {
  const builder = new TreeBuilder();
  builder.beginFolder('');
  for (let index = 1; index < nodes; index++) builder.regular(String(index).padStart(8, '0'), false, index);
  builder.endFolder();
  return builder.build();
}

test('a few trees stay in memory, and the others are read again', async () => {
  const disk = new Map<string, Tree>();
  const reads: string[] = [];
  const folder = {
    writeTree: async (name: string, tree: Tree) => void disk.set(name, new Tree(tree.nodes)),
    readTree: async (name: string) => {
      reads.push(name);
      return disk.get(name)!;
    },
  };
  const trees = new Trees(folder, 25);
  for (const name of ['a', 'b', 'c']) await trees.put(name, treeOf(10));
  assert.equal(trees.nodesInMemory, 20);
  assert.equal(trees.peek('a'), undefined);
  await trees.get('b');
  const [one, other] = await Promise.all([trees.get('a'), trees.get('a')]);
  assert.equal(one, other);
  assert.deepEqual(reads, ['a']);
  assert.equal(trees.peek('c'), undefined, 'the one used longest ago is gone');
  await trees.put('large', treeOf(100));
  assert.equal(trees.peek('large')?.nodes.length, 100, 'the present one stays, however large');
  assert.equal(trees.nodesInMemory, 100);
});

test('trees are alike if everything shown is the same, wherever the contents are', () => {
  const tree = (target: string, isExecutable: boolean, sizeBytes: number, offset?: number): Tree => {
    const builder = new TreeBuilder();
    builder.beginFolder('');
    builder.symlink('a', target);
    builder.regular('b', isExecutable, sizeBytes, offset);
    builder.endFolder();
    return builder.build();
  };
  assert.ok(tree('x', true, 5, 96).isLike(tree('x', true, 5)));
  for (const other of [tree('y', true, 5), tree('x', false, 5), tree('x', true, 6), treeOf(3)])
    assert.ok(!tree('x', true, 5, 96).isLike(other));
});
