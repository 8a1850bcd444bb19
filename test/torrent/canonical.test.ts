import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import bencode from 'bencode';
import * as fc from 'fast-check';
import { fileHashOf } from '../../src/nix/hash.ts';
import {
  encodeInfo,
  extensionOf,
  infoHashOf,
  infoOf,
  magnetOf,
  narTorrent,
  PIECE_HASH_BYTES,
  PIECE_LENGTH_VERSION,
  pieceLengthOf,
  torrentFile,
} from '../../src/torrent/canonical.ts';
import type { NarTorrent } from '../../src/torrent/canonical.ts';
import { failsWith } from '../nix/fixtures.ts';
import { requireTool } from '../support/require-tool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * Infohashes of {@link bytesOf}. A change here changes every published hash map, and needs a new PIECE_LENGTH_VERSION.
 */
const GOLDEN: readonly (readonly [sizeBytes: number, extension: string, infoHash: string])[] = [
  [1, 'xz', 'db5fb1eb481160bc9a5f04c2b046a3a52a5b4610'],
  [16 * KIB, 'xz', '48d3a089f9ebac13ece5dfc95feda8610b13036d'],
  [16 * KIB + 1, 'xz', '51451ba129d6842b3436f51c1b5a6ff0f44f9a78'],
  [100_000, 'zst', '2848795f48756cb7c57c6be0e989cd4b68d274c8'],
  [MIB, '', 'f9ed3a3ef5ca23dcc498e754f87d95b11a7a5543'],
  [MIB + 1, 'xz', '88048719d0ee58f491e5cd78752c948c3419766a'],
  [5_000_000, 'xz', '2c4cf9a91323e496b17104046013459bc95204e9'],
];

/** Makes bytes by arithmetic, so that they are the same everywhere. No two pieces are equal. */
function bytesOf(sizeBytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 7 + (i >> 8) * 31 + (i >> 16) * 17) & 0xff));
}

function torrentOf(sizeBytes: number, extension = 'xz'): NarTorrent {
  const bytes = bytesOf(sizeBytes);
  const pieceLength = pieceLengthOf(sizeBytes);
  const digests = Array.from({ length: Math.ceil(sizeBytes / pieceLength) }, (_, piece) =>
    createHash('sha1')
      .update(bytes.subarray(piece * pieceLength, (piece + 1) * pieceLength))
      .digest(),
  );
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  return narTorrent({ fileHash, extension, sizeBytes, pieces: Buffer.concat(digests) });
}

test('the infohash of the same bytes never changes', () => {
  assert.equal(PIECE_LENGTH_VERSION, 2);
  for (const [sizeBytes, extension, infoHash] of GOLDEN) {
    assert.equal(torrentOf(sizeBytes, extension).infoHash, infoHash, `${sizeBytes} bytes`);
  }
});

const PYTHON = '/usr/bin/python3';

function python(script: string, args: readonly string[]): string[] {
  return execFileSync(PYTHON, ['-c', script, ...args], { encoding: 'utf8' })
    .trimEnd()
    .split('\n');
}

suite('libtorrent', () => {
  before(requireTool('python3-libtorrent', PYTHON, '-c', 'import libtorrent'));

  test('reads the torrent files and finds the same infohashes', () => {
    const folder = mkdtempSync(join(tmpdir(), 'narswarm-canonical-'));
    try {
      const torrents = GOLDEN.map(([sizeBytes, extension]) => torrentOf(sizeBytes, extension));
      const files = torrents.map((torrent) => join(folder, `${torrent.infoHash}.torrent`));
      for (const [index, torrent] of torrents.entries()) writeFileSync(files[index] ?? '', torrentFile(torrent));
      const script = `
import libtorrent, sys
for path in sys.argv[1:]:
    t = libtorrent.torrent_info(path)
    print(t.info_hash(), t.name(), t.total_size(), t.piece_length(), t.num_pieces())`;
      const expected = torrents.map((torrent) => {
        const { infoHash, name, sizeBytes, pieceLength, pieces } = torrent;
        return `${infoHash} ${name} ${sizeBytes} ${pieceLength} ${pieces.length / PIECE_HASH_BYTES}`;
      });
      assert.deepEqual(python(script, files), expected);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('reads the magnet links', () => {
    const torrent = torrentOf(1);
    const script = `
import libtorrent, sys
p = libtorrent.parse_magnet_uri(sys.argv[1])
print(p.info_hashes.v1, p.name)`;
    const magnet = magnetOf(torrent, ['192.0.2.1:6881', '[2001:db8::1]:6881']);
    assert.deepEqual(python(script, [magnet]), [`${torrent.infoHash} ${torrent.name}`]);
  });
});

test('piece lengths are powers of two that hold the file, within 16 KiB and 256 KiB', () => {
  const expected = [
    [1, 16 * KIB],
    [16 * KIB, 16 * KIB],
    [16 * KIB + 1, 32 * KIB],
    [128 * KIB, 128 * KIB],
    [128 * KIB + 1, 256 * KIB],
    [256 * KIB, 256 * KIB],
    [256 * KIB + 1, 256 * KIB],
    [Number.MAX_SAFE_INTEGER, 256 * KIB],
  ] as const;
  for (const [sizeBytes, pieceLength] of expected) assert.equal(pieceLengthOf(sizeBytes), pieceLength);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: MIB }), (sizeBytes) => {
      const pieceLength = pieceLengthOf(sizeBytes);
      assert.ok(Number.isInteger(Math.log2(pieceLength)));
      assert.ok(pieceLength >= Math.min(sizeBytes, 256 * KIB));
      assert.ok(pieceLength === 16 * KIB || pieceLength / 2 < sizeBytes);
    }),
  );
});

test('info is encoded as the library for bencoding does', () => {
  for (const [sizeBytes, extension] of GOLDEN) {
    const torrent = torrentOf(sizeBytes, extension);
    assert.deepEqual(Buffer.from(encodeInfo(torrent)), Buffer.from(bencode.encode(infoOf(torrent))));
  }
});

test('info has exactly four keys, in one encoding', () => {
  const torrent = torrentOf(100_000);
  const { name, pieces } = torrent;
  assert.deepEqual(infoOf(torrent), { length: 100_000, name, 'piece length': 128 * KIB, pieces });
  const encoded = encodeInfo(torrent);
  const head = `d6:lengthi100000e4:name${name.length}:${name}12:piece lengthi131072e6:pieces20:`;
  assert.deepEqual(Buffer.from(encoded), Buffer.concat([Buffer.from(head), pieces, Buffer.from('e')]));
  assert.equal(infoHashOf(encoded), torrent.infoHash);
  assert.equal(
    Buffer.from(torrentFile(torrent)).toString('latin1'),
    `d4:info${Buffer.from(encoded).toString('latin1')}e`,
  );
  assert.deepEqual(Buffer.from(bencode.encode(bencode.decode(encoded))), Buffer.from(encoded));
});

test('names are the hash, .nar and the ending of the compression', () => {
  const { fileHash } = torrentOf(1);
  assert.equal(torrentOf(1).name, `${fileHash}.nar.xz`);
  assert.equal(torrentOf(1, '').name, `${fileHash}.nar`);
  const endings = { xz: 'xz', zstd: 'zst', none: '', bzip2: 'bz2', gzip: 'gz', br: 'br', lz4: 'lz4' };
  for (const [compression, extension] of Object.entries(endings)) assert.equal(extensionOf(compression), extension);
});

test('refuses a compression that cannot be part of a file name', () => {
  for (const compression of ['', 'XZ', '../x', 'x/y', 'x y', 'xz\n', 'a'.repeat(17), '__proto__']) {
    assert.throws(() => extensionOf(compression), failsWith('INDEX_INVALID', /is not a compression/));
  }
});

test('refuses pieces that do not fit the size', () => {
  const { fileHash } = torrentOf(1);
  const torrent = (sizeBytes: number, pieceBytes: number) =>
    narTorrent({ fileHash, extension: 'xz', sizeBytes, pieces: new Uint8Array(pieceBytes) });
  for (const pieceBytes of [0, 19, 21, 40]) {
    assert.throws(() => torrent(256 * KIB, pieceBytes), failsWith('INDEX_INVALID', /needs 20 bytes of piece hashes/));
  }
  assert.throws(() => torrent(256 * KIB + 1, 20), failsWith('INDEX_INVALID', /needs 40 bytes/));
  for (const [sizeBytes, pieceBytes] of [
    [0, 0],
    [-1, 0],
    [1.5, 20],
    [Number.NaN, 20],
    [2 ** 53, 20],
  ] as const) {
    assert.throws(() => torrent(sizeBytes, pieceBytes), failsWith('INDEX_INVALID', /cannot have .* bytes/));
  }
});

test('magnet links have the name, the size and the peers to ask', () => {
  const torrent = torrentOf(100_000);
  const bare = `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${torrent.name}&xl=100000`;
  assert.equal(magnetOf(torrent), bare);
  assert.equal(
    magnetOf(torrent, ['192.0.2.1:6881', '[2001:db8::1]:6881', 'a&b']),
    `${bare}&x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:6881&x.pe=a%26b`,
  );
});
