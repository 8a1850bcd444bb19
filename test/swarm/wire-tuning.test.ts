/**
 * The members of WebTorrent that narswarm replaces or uses though they are private. A new version of a library that
 * lacks one fails here, by name, and not somewhere in a download.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import Wire from 'bittorrent-protocol';
import Piece from 'torrent-piece';
import WebTorrent from 'webtorrent';
import Peer from 'webtorrent/lib/peer.js';
import Torrent from 'webtorrent/lib/torrent.js';
import { BLOCK_BYTES, LONG_REQUEST_BYTES } from '../../src/swarm/block-length.ts';
import { tuneWebTorrent } from '../../src/swarm/wire-tuning.ts';
import { makeNar, startSeeder, startSwarm, peersAt, startDownload } from './swarm-fixture.ts';

/** The versions whose source the replacements were written against. */
const VERSIONS: Readonly<Record<string, string>> = {
  webtorrent: '3.0.21',
  'bittorrent-protocol': '5.0.9',
  ut_metadata: '5.0.1',
  'torrent-piece': '4.0.1',
  bencode: '4.0.1',
};

/** What is called on an object or replaced in it: all of these have to be functions. */
const METHODS: readonly (readonly [name: string, prototype: object, members: readonly string[]])[] = [
  ['WebTorrent', WebTorrent.prototype, ['add', 'destroy', '_onListening']],
  ['Peer', Peer.prototype, ['setThrottlePipes', 'destroy', 'onHandshake']],
  [
    'Torrent',
    Torrent.prototype,
    ['addPeer', 'destroy', '_destroy', '_markVerified', '_checkDone', '_update', '_updateWire', '_debug'],
  ],
  ['Piece', Piece.prototype, ['reserve', 'cancel', 'set', 'flush']],
  [
    'Wire',
    Wire.prototype,
    (
      'have request setTimeout destroy pause resume write _debug _write _processBuffer _onMessageLength ' +
      '_onRequest _onCancel _onPiece'
    ).split(' '),
  ],
];

/** What is replaced, and the name of the function that stands there instead. */
const REPLACED: readonly (readonly [prototype: object, member: string, name: string])[] = [
  [Peer.prototype, 'setThrottlePipes', 'joinSocketAndWire'],
  [Wire.prototype, '_write', 'bufferUntilParsable'],
  [Wire.prototype, '_onPiece', 'ignoreUnaskedBlock'],
  [Wire.prototype, '_onRequest', 'answerInTurn'],
  [Wire.prototype, '_onCancel', 'forgetWaiting'],
  [Torrent.prototype, '_updateWire', 'requestBlocks'],
];

/** Data of a fresh connection, with what it has to be. */
const WIRE_FIELDS: Readonly<Record<string, unknown>> = {
  peerChoking: true,
  requests: [],
  peerRequests: [],
  extendedMapping: {},
  extendedHandshake: {},
  peerExtendedHandshake: {},
  hasFast: false,
  _buffer: [],
  _bufferSize: 0,
  _parserSize: 1,
};

for (const [name, version] of Object.entries(VERSIONS)) {
  test(`${name} is the version that was read`, () => {
    const file = createRequire(import.meta.url).resolve(`../../node_modules/${name}/package.json`);
    assert.equal((JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version, version);
  });
}

for (const [name, prototype, members] of METHODS) {
  test(`${name} has every method that is replaced or called`, () => {
    const found = members.filter((member) => typeof Reflect.get(prototype, member) === 'function');
    assert.deepEqual(found, members);
  });
}

test('Wire has every field that is read', () => {
  const wire = new Wire();
  for (const [name, value] of Object.entries(WIRE_FIELDS)) assert.deepEqual(Reflect.get(wire, name), value, name);
  assert.equal(typeof wire._readableState.buffered, 'number');
});

test('requests of ours fit what WebTorrent answers', () => {
  assert.equal(BLOCK_BYTES, 16 * 1024);
  assert.equal(LONG_REQUEST_BYTES % BLOCK_BYTES, 0);
  const source = readFileSync(createRequire(import.meta.url).resolve('webtorrent/lib/torrent.js'), 'utf8');
  assert.match(source, /const MAX_BLOCK_LENGTH = 128 \* 1024\n/);
});

test('every replacement is in place, and a second call changes nothing', () => {
  tuneWebTorrent();
  const names = (): string[] =>
    REPLACED.map(([prototype, member]) => (Reflect.get(prototype, member) as { name: string }).name);
  const expected = REPLACED.map(([, , name]) => name);
  assert.deepEqual(names(), expected);
  tuneWebTorrent();
  assert.deepEqual(names(), expected);
});

test('a live torrent and its peers have every field that is read', { timeout: 10_000 }, async (t) => {
  const nar = await makeNar(t, 100_000);
  const seeder = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const add = t.mock.method(WebTorrent.prototype, 'add');
  const { download, done } = startDownload(t, client, nar.torrent);
  const torrent = add.mock.calls[0]?.result;
  assert.ok(torrent !== undefined);
  const { promise: wired, resolve } = Promise.withResolvers<Wire>();
  torrent.once('wire', resolve);
  await download.addPeers(peersAt(client, seeder.port));
  const wire = await wired;
  for (const name of ['setMetadata', 'cancel'] as const) assert.equal(typeof wire.ut_metadata[name], 'function');
  assert.ok('metadata' in wire.ut_metadata);
  assert.deepEqual(
    torrent._hashes,
    torrent.pieces.map(() => Buffer.from(nar.torrent.pieces).toString('hex')),
  );
  const [selection] = torrent._selections;
  assert.deepEqual([selection?.from, selection?.to, selection?.offset], [0, 0, 0]);
  assert.equal(torrent.wires.length, 1);
  await done;
  assert.ok(torrent.bitfield.get(0));
});
