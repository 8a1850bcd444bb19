import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deltasOf, MAX_DELTAS, PATCH_EXTENSION, withDeltas, type Delta } from '../../src/delta/record.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';

const BASE_NAME = 'ak1r35k6n7424jh8hk7axrj4l9x6zsrv-hello-2.12';
const record: NarInfo = parseNarInfo(
  [
    'StorePath: /nix/store/bk1r35k6n7424jh8hk7axrj4l9x6zsrv-hello-2.13',
    'URL: nar/x.nar.xz',
    'Compression: xz',
    `NarHash: sha256:${narHashOf(Buffer.alloc(32, 1))}`,
    'NarSize: 120',
    'References: ',
    '',
  ].join('\n'),
);

function deltaOf(byte: number): Delta {
  const fileHash = fileHashOf(Buffer.alloc(32, byte));
  const torrent = narTorrent({
    fileHash,
    extension: PATCH_EXTENSION,
    sizeBytes: 300_000,
    pieces: Buffer.alloc(40, byte),
  });
  return { baseName: BASE_NAME, baseNarHash: narHashOf(Buffer.alloc(32, 2)), baseNarSize: 100, torrent };
}

describe('deltas of a record', () => {
  test('are read back as they were written', () => {
    const deltas = [deltaOf(3), deltaOf(4)];
    const text = formatNarInfo(withDeltas(record, deltas));
    assert.deepEqual(deltasOf(parseNarInfo(text)), deltas);
    assert.match(text, /^Delta: 1 ak1r\S+-hello-2\.12 sha256:\S{52} 100 300000 sha256:\S{52} [0-9a-f]{40} \S{56}$/m);
  });

  test('replace earlier ones, and are few', () => {
    const many = Array.from({ length: 9 }, (_, byte) => deltaOf(byte));
    assert.equal(deltasOf(withDeltas(withDeltas(record, [deltaOf(9)]), many)).length, MAX_DELTAS);
  });

  test('of another version, malformed, or with a torrent that does not fit are ignored', () => {
    const [[key, line] = ['', '']] = withDeltas(record, [deltaOf(3)]).extra;
    const wrong = [
      line.replace(/^1 /, '2 '),
      line.replace(' 300000 ', ' 300001 '),
      line.replace(' 300000 ', ' 0 '),
      line.replace(' 100 ', ' 1e9 '),
      line.replace(/ \S{56}$/, ' AAAA'),
      `${line} more`,
      line.replace(BASE_NAME, '../etc'),
      '',
    ];
    for (const value of wrong) assert.deepEqual(deltasOf({ ...record, extra: [[key, value]] }), [], value);
  });
});
