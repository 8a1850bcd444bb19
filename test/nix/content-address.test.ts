import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { contentAddressedPath, parseContentAddress, verifiesContentAddress } from '../../src/nix/content-address.ts';
import { parseHash } from '../../src/nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { baseNameOf, parseStorePath } from '../../src/nix/store-path.ts';
import { readFixture } from './fixtures.ts';

/** Unsigned paths of every kind, made by the real Nix (fixtures/nix/content-addresses/make.sh). */
const FOLDER = 'content-addresses/cache';
const INFOS = readdirSync(new URL(`../../fixtures/nix/${FOLDER}`, import.meta.url))
  .filter((name) => name.endsWith('.narinfo'))
  .map((name) => parseNarInfo(readFixture(`${FOLDER}/${name}`)));

function infoNamed(name: string): NarInfo {
  const info = INFOS.find(({ storePath }) => baseNameOf(storePath).slice(33) === name);
  assert(info !== undefined, name);
  return info;
}

test('every content-addressed path of the real Nix verifies', () => {
  assert.equal(INFOS.length, 14);
  const kinds = new Set(INFOS.map(({ ca = '' }) => ca.replace(/:[^:]+$/, '')));
  const fixed = ['md5', 'sha1', 'sha256', 'sha512'].flatMap((algorithm) => [
    `fixed:${algorithm}`,
    `fixed:r:${algorithm}`,
  ]);
  assert.deepEqual([...kinds].toSorted(), [...fixed, 'text:sha256'].toSorted());
  for (const info of INFOS) assert(verifiesContentAddress(info), info.storePath);
});

test('the path of a git tree follows from its hash', () => {
  const address = parseContentAddress('fixed:git:sha1:pzki9p5zq6xfkkhkmrx2bhwzqafnwagx');
  assert(address !== undefined);
  // A git tree that a Nix with git hashing added to its store; a tutorial of obsidian.systems published its path.
  assert.equal(Buffer.from(address.digest).toString('hex'), 'fd296e9dc29fc3257aae13cee9bac1bfdc14e7bf');
  const path = contentAddressedPath(address, 'source', { others: [], self: false }, '/nix/store');
  assert.equal(path, '/nix/store/p3mq27al6qgja0m0b97nq1vs55fa34pr-source');
});

test('all encodings of a hash give the same address', () => {
  for (const info of INFOS) {
    const [, kind = '', digits = ''] = /^(.*):([^:]+)$/.exec(info.ca ?? '') ?? [];
    const { digest } = parseHash(`${kind.split(':').at(-1)}:${digits}`);
    for (const encoding of ['hex', 'base64'] as const) {
      assert(verifiesContentAddress({ ...info, ca: `${kind}:${Buffer.from(digest).toString(encoding)}` }));
    }
  }
});

test('an address of anything else does not verify', () => {
  const [text, tree, itself, flat, floating] = ['text+1.0_x=?', 'tree', 'itself', 'flat-sha256.txt', 'floating'].map(
    infoNamed,
  );
  assert(text && tree && itself && flat && floating);
  const own = (info: NarInfo): string => baseNameOf(info.storePath);
  const altered: Record<string, NarInfo> = {
    'another path': { ...tree, storePath: parseStorePath(tree.storePath.replace(/tree$/, 'wood')) },
    'another store directory': { ...tree, storePath: parseStorePath(tree.storePath.replace('/nix/', '/nox/')) },
    'another NAR hash': { ...tree, narHash: flat.narHash },
    'the address of another path': { ...tree, ca: floating.ca! },
    'another method': { ...flat, ca: flat.ca!.replace('fixed:', 'fixed:git:') },
    'a reference less': { ...text, references: [] },
    'a reference more': { ...tree, references: [own(text)] },
    'another reference': { ...floating, references: [own(text), ...floating.references.slice(1)] },
    'a reference to itself': { ...tree, references: [own(tree)] },
    'no reference to itself': { ...itself, references: itself.references.filter((name) => name !== own(itself)) },
    'a text that refers to itself': { ...text, references: [...text.references, own(text)] },
    'a file that refers to something': { ...flat, references: [own(text)] },
    'a file that refers to itself': { ...flat, references: [own(flat)] },
    'no address': { ...tree, ca: undefined! },
  };
  for (const [what, info] of Object.entries(altered)) assert.equal(verifiesContentAddress(info), false, what);
  assert(verifiesContentAddress({ ...floating, references: floating.references.toReversed() }), 'any order will do');
});

test('refuses an address that Nix would refuse, or that no stable Nix reads', () => {
  const sha256 = infoNamed('tree').ca!.slice('fixed:r:sha256:'.length);
  const refused = [
    'foo',
    '',
    'text',
    'text:',
    'fixed:r:',
    `sha256:${sha256}`,
    `text:r:sha256:${sha256}`,
    `fixed:r:blake3:${sha256}`,
  ];
  refused.push(
    `text:sha1:${'a'.repeat(32)}`,
    `fixed:git:md5:${'a'.repeat(26)}`,
    `fixed:x:sha256:${sha256}`,
    `fixed:r:md4:${'a'.repeat(26)}`,
  );
  refused.push(
    `fixed:r:sha256:${sha256.slice(1)}`,
    `fixed:r:sha256:${sha256} `,
    `fixed:r:sha256:${sha256}:x`,
    `flat:sha256:${sha256}`,
  );
  refused.push(
    `fixed:r:sha256-${Buffer.alloc(32).toString('base64')}`,
    `FIXED:r:sha256:${sha256}`,
    `fixed:r:sha256:${'~'.repeat(52)}`,
  );
  for (const text of refused) assert.equal(parseContentAddress(text), undefined, text);
});
