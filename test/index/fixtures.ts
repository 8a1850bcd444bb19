/** Shared by the tests of this folder: a small hash map of the closure in fixtures/nix/cache, and its key. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import type { IndexParts } from '../../src/index/build.ts';
import type { Manifest } from '../../src/index/manifest.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { toRecord } from '../../src/index/record.ts';
import { MAX_RECORDS, MAX_SHARD_BYTES } from '../../src/index/format/limits.ts';
import { NarswarmError } from '../../src/errors.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { extensionOf, narTorrent } from '../../src/torrent/canonical.ts';
import { CACHE_DIR, LEAF, NOTE, readNarInfo, TOP } from '../nix/fixtures.ts';

/** The folder that fixtures/index/make.ts writes. */
export const FIXTURES = new URL('../../fixtures/index/', import.meta.url);

/** Fails if zstd has another version than for the golden files: it compresses to other, equally good bytes. */
export function assertGoldenZstd(): void {
  assert.equal(process.versions['zstd'], '1.5.7', 'run the tests with the Node that package.json names (npm test)');
}

export const KEY = publisherKeyFromSeed(Buffer.alloc(32, 7));
export const OTHER_KEY = publisherKeyFromSeed(Buffer.alloc(32, 8));

/** The three NARs of the closure are one piece each. */
export const RECORDS: readonly NarInfo[] = [TOP, LEAF, NOTE].map((storeHash) => {
  const info = parseNarInfo(readNarInfo(storeHash));
  const nar = readFileSync(join(CACHE_DIR, info.url));
  const fileHash = fileHashOf(createHash('sha256').update(nar).digest());
  const pieces = createHash('sha1').update(nar).digest();
  const extension = extensionOf(info.compression);
  return toRecord(info, narTorrent({ fileHash, extension, sizeBytes: nar.length, pieces }));
});

/** A time at which the golden hash map is valid. */
export const NOW = new Date('2026-02-01T12:00:00Z');

export const GOLDEN: IndexParts & { readonly records: readonly NarInfo[] } = {
  records: RECORDS,
  key: KEY,
  salt: 'desktop',
  seq: 42,
  created: new Date('2026-01-31T03:00:00Z'),
  expires: new Date('2026-02-14T03:00:00Z'),
  storeDir: '/nix/store',
  roots: [{ name: 'top', path: parseStorePath(`/nix/store/${TOP}-top+1.0_x=?`) }],
  peers: ['seeder.example.org:6881', '[2001:db8::1]:6881'],
  trackers: ['udp://tracker.example.org:6969', 'https://tracker.example.org/announce'],
};

/** Any manifest that can be signed. A function, since fast-check takes a second to learn all graphemes. */
export const anyManifest = (): fc.Arbitrary<Manifest> =>
  fc
    .record({
      prefixLength: fc.integer({ min: 0, max: 2 }),
      hashes: fc.uniqueArray(fc.uint8Array({ minLength: 32, maxLength: 32 }).map(encodeNix32), { maxLength: 8 }),
      sizeBytes: fc.integer({ min: 1, max: MAX_SHARD_BYTES }),
      salt: fc.string({ unit: 'grapheme', maxLength: 12 }).filter((salt) => Buffer.byteLength(salt) <= 64),
      seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      created: fc.integer({ min: 0, max: 4_000_000_000 }),
      lifetime: fc.integer({ min: 1, max: 100_000_000 }),
      roots: fc.uniqueArray(fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}$/), { maxLength: 3 }),
      peers: fc.uniqueArray(fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 })), {
        maxLength: 3,
        selector: String,
      }),
      peerPort: fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
      previous: fc.uniqueArray(fc.uint8Array({ minLength: 32, maxLength: 32 }).map(encodeNix32), { maxLength: 4 }),
      trackers: fc.uniqueArray(fc.webUrl(), { maxLength: 3 }),
      recordCount: fc.nat(MAX_RECORDS),
    })
    .map(
      ({ hashes, sizeBytes, created, lifetime, roots, peers, peerPort, previous, prefixLength, ...rest }): Manifest => {
        const prefixOf = (sha256: string) => (prefixLength === 0 ? '' : sha256.slice(-1));
        const byPrefix = new Map(hashes.map((sha256) => [prefixOf(sha256), sha256]));
        const shards = Array.from(byPrefix, ([prefix, sha256]) => ({ prefix, sizeBytes, sha256 }));
        return Object.assign(rest, {
          prefixLength,
          created: new Date(created * 1000),
          expires: new Date((created + lifetime) * 1000),
          storeDir: '/nix/store',
          roots: roots.map((name, index) => ({
            name,
            path: parseStorePath(`/nix/store/${TOP}-${name}`),
            ...(index === 0 || hashes[index] === undefined ? {} : { list: { sizeBytes, sha256: hashes[index] } }),
          })),
          peers: peers.map(([host, port]) => `${host}:${port}`),
          shards: shards.toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1)),
          ...(peerPort === undefined ? {} : { peerPort }),
          ...(previous.length === 0 || rest.seq <= previous.length
            ? {}
            : { previous: previous.map((sha256, index) => ({ seq: rest.seq - 1 - index, sha256 })) }),
        });
      },
    );

/** Runs a function. Any error must be a NarswarmError. */
export function throwsOnlyOwnErrors(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof NarswarmError)) throw error;
  }
}

/** The bytes with one bit flipped. */
export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Uint8Array.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}
