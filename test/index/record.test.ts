import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isNarswarmError } from '../../src/errors.ts';
import { formatRecords, torrentOfRecord, toRecord } from '../../src/index/record.ts';
import { ShardRecords } from '../../src/index/files/shard-records.ts';
import { parseNarInfo, withExtra } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';
import { syntheticRecords } from '../bench/records.ts';
import { failsWith, LEAF, NOTE, readNarInfo, TOP } from '../nix/fixtures.ts';
import { RECORDS, throwsOnlyOwnErrors } from './fixtures.ts';

const RECORD = RECORDS[0]!;
const PIECES = RECORD.extra.find(([key]) => key === 'Pieces')![1];
const unfit = (reason: RegExp) =>
  failsWith('INDEX_INVALID', new RegExp(`^the record of ${TOP_PATH}.*${reason.source}`));
const TOP_PATH = `/nix/store/${TOP}-top`;

function without(info: NarInfo, key: 'fileHash' | 'fileSize'): NarInfo {
  const { [key]: _, ...rest } = info;
  return rest;
}

function parseRecords(text: string): ShardRecords {
  return ShardRecords.scan(Buffer.from(text));
}

function infosIn(text: string): NarInfo[] {
  return [...parseRecords(text)].map(([, info]) => info);
}

test('a record is a narinfo followed by the infohash and the pieces', () => {
  const info = parseNarInfo(readNarInfo(TOP));
  const torrent = torrentOfRecord(RECORD)!;
  assert.deepEqual(RECORD, {
    ...info,
    extra: [
      ['InfoHash', torrent.infoHash],
      ['Pieces', PIECES],
    ],
  });
  assert.equal(Buffer.from(torrent.pieces).toString('base64'), PIECES);
  assert.equal(torrent.name, `${info.fileHash}.nar.xz`);
  assert.equal(torrent.sizeBytes, info.fileSize);
  assert.equal(torrent.fileHash, info.fileHash);
  assert.deepEqual(toRecord(RECORD, torrent), RECORD);
});

test('a narinfo without the added fields has no torrent', () => {
  assert.equal(torrentOfRecord(parseNarInfo(readNarInfo(TOP))), undefined);
});

test('refuses the torrent of another file', () => {
  const torrent = torrentOfRecord(RECORDS[1]!)!;
  assert.throws(() => toRecord(RECORD, torrent), unfit(/InfoHash/));
});

test('refuses added fields that do not fit the narinfo', () => {
  const extra = (key: string, value: string | undefined) => withExtra(RECORD, key, value);
  const cases: readonly (readonly [NarInfo, RegExp])[] = [
    [extra('InfoHash', undefined), /Pieces without InfoHash/],
    [extra('Pieces', undefined), /InfoHash without Pieces/],
    [without(RECORD, 'fileHash'), /no FileHash/],
    [without(RECORD, 'fileSize'), /no FileSize/],
    [extra('Pieces', `${PIECES} `), /not base64/],
    [extra('Pieces', PIECES.replaceAll('=', '')), /not base64/],
    [extra('Pieces', ''), /needs 20 bytes of piece hashes, not 0/],
    [extra('Pieces', Buffer.alloc(40).toString('base64')), /needs 20 bytes of piece hashes, not 40/],
    [extra('Pieces', Buffer.alloc(20).toString('base64')), /InfoHash is/],
    [extra('InfoHash', '0'.repeat(40)), /InfoHash is "0{40}", but its other fields give [0-9a-f]{40}/],
    [{ ...RECORD, fileSize: 2 ** 19 }, /needs 40 bytes/],
    [{ ...RECORD, fileHash: RECORDS[1]!.fileHash! }, /InfoHash is/],
    [{ ...RECORD, compression: 'zstd' }, /InfoHash is/],
    [{ ...RECORD, compression: '../../x' }, /not a compression/],
  ];
  for (const [info, reason] of cases) assert.throws(() => torrentOfRecord(info), unfit(reason), reason.source);
});

test('writes records in the order of their store hashes', () => {
  const text = formatRecords(RECORDS);
  assert.equal(formatRecords(RECORDS.toReversed()), text);
  assert.deepEqual([...parseRecords(text).keys()], [LEAF, NOTE, TOP].toSorted());
  assert.equal(text.split('\n\n').length, RECORDS.length);
  assert.equal(formatRecords([]), '');
  assert.equal(parseRecords('').size, 0);
});

test('parse reads back the output of format', () => {
  const records = syntheticRecords(300);
  const byHash = new Map(records.map((info) => [storeHashOf(info.storePath), info]));
  assert.deepEqual(new Map(parseRecords(formatRecords(records))), byHash);
  assert.equal(formatRecords(infosIn(formatRecords(records))), formatRecords(records));
});

test('refuses two records of one store hash, written or read', () => {
  assert.throws(() => formatRecords([...RECORDS, RECORD]), failsWith('INDEX_INVALID', /two records .*-top/));
  const text = formatRecords([RECORD]);
  assert.throws(() => parseRecords(`${text}\n${text}`), failsWith('INDEX_INVALID', /record 2: .*is repeated/));
});

test('refuses another order, and names the place', () => {
  const [first = '', second = '', third = ''] = RECORDS.map((info) => formatRecords([info])).toSorted();
  assert.throws(
    () => parseRecords([first, third, second].join('\n')),
    (error) => {
      assert.ok(isNarswarmError(error, 'INDEX_INVALID'));
      assert.equal(error.facts.record, 3);
      return true;
    },
  );
});

test('refuses a malformed record, with the place and the cause', () => {
  const text = formatRecords(RECORDS);
  const second = text.indexOf('\n\n') + 2;
  for (const [broken, place] of [
    [text.slice(0, -1), 3],
    [`${text}\n`, 4],
    [`\n${text}`, 1],
    [text.replace('\n\n', '\n\n\n'), 2],
    [text.replace('\n\n', '\n'), 1],
    [`${text.slice(0, second)}x${text.slice(second)}`, 2],
    [text.replaceAll('\n', '\r\n'), 1],
  ] as const) {
    assert.throws(
      () => infosIn(broken),
      (error) => {
        assert.ok(isNarswarmError(error, 'INDEX_INVALID'), String(error));
        assert.equal(error.facts.record, place, error.message);
        // two joined records are not malformed, but have two store paths
        assert.ok(error.cause === undefined || isNarswarmError(error.cause, 'NARINFO_INVALID'));
        return true;
      },
    );
  }
});

test('refuses garbage with a NarswarmError', () => {
  const text = formatRecords(RECORDS);
  const altered = fc
    .tuple(fc.nat(text.length), fc.nat(40), fc.string({ maxLength: 5 }))
    .map(([at, cut, inserted]) => text.slice(0, at) + inserted + text.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(fc.string(), altered), (input) =>
      throwsOnlyOwnErrors(() => {
        for (const info of infosIn(input)) throwsOnlyOwnErrors(() => torrentOfRecord(info));
      }),
    ),
  );
});

test('a NAR of many pieces keeps them all', () => {
  const pieces = Buffer.from(Array.from({ length: 20 * 3000 }, (_, index) => index & 0xff));
  const { fileHash } = RECORD;
  const info = { ...RECORD, fileSize: 3000 * 2 ** 18 - 5, extra: [] };
  const torrent = narTorrent({ fileHash: fileHash!, extension: 'xz', sizeBytes: info.fileSize, pieces });
  const [record] = infosIn(formatRecords([toRecord(info, torrent)]));
  assert.deepEqual(torrentOfRecord(record!), { ...torrent, pieces });
});
