import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import { noteGoodBytes, noteReached, noteSilence, noteUnreachable, PeerTable } from '../../src/discovery/peer-table.ts';
import { MAX_PEERS, MAX_PEERS_PER_HOST } from '../../src/wire/bounds.ts';

const NOWHERE = new BlockList();

const at = (host: string): { host: string; port: number } => ({ host, port: 6881 });

test('a peer has one record, however often it is added', () => {
  const table = new PeerTable();
  assert.equal(table.add(at('10.0.0.1')), table.add(at('10.0.0.1')));
  assert.equal(table.get('10.0.0.1:6881')?.hits, 0);
  assert.equal(table.add(at('fe80::1')).address, '[fe80::1]:6881');
});

test('a banned peer is never chosen, and keeps its first reason', () => {
  const table = new PeerTable();
  const [liar, honest] = [table.add(at('10.0.0.1')), table.add(at('10.0.0.2'))];
  table.ban(liar.address, 'lied');
  table.ban(liar.address, 'lied again');
  assert.equal(liar.banned, 'lied');
  assert.deepEqual(table.choose(9, table.all()), [honest]);
  assert.equal(table.isBannedHost('10.0.0.1'), false, 'other peers of that host may be honest');
});

test('a peer that connected to us is banned by its host', () => {
  const table = new PeerTable();
  table.ban('::ffff:10.0.0.1:54321', 'lied');
  assert.ok(table.isBannedHost('::ffff:10.0.0.1'));
});

test('a peer that never had anything is no longer asked', () => {
  const table = new PeerTable();
  const peer = table.add(at('10.0.0.1'));
  peer.misses = 15;
  assert.deepEqual(table.choose(1, [peer]), [peer]);
  peer.misses = 16;
  assert.deepEqual(table.choose(1, [peer]), []);
  peer.hits = 1;
  assert.deepEqual(table.choose(1, [peer]), [peer]);
});

test('nobody is chosen if there are more connections than places', () => {
  const table = new PeerTable();
  const peers = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((host) => table.add(at(host)));
  assert.deepEqual([table.choose(0, peers), table.choose(-1, peers)], [[], []]);
});

test('peers that had wanted files come first', () => {
  const table = new PeerTable();
  const good = table.add(at('10.0.0.1'));
  const bad = table.add(at('10.0.0.2'));
  good.hits = 50;
  bad.misses = 15;
  for (let round = 0; round < 50; round++) assert.deepEqual(table.choose(1, [bad, good]), [good]);
});

test('merit is good bytes, not a handshake, and silent peers come last', () => {
  const table = new PeerTable();
  const [sender, reached, stranger, off, silent] = [1, 2, 3, 4, 5].map((last) => table.add(at(`10.0.0.${last}`)));
  assert.ok(sender && reached && stranger && off && silent);
  noteGoodBytes(sender, 1);
  noteReached(reached);
  off.dialedAtMs = performance.now() - 1_000;
  silent.hits = 50;
  noteSilence(silent);
  const all = [silent, off, stranger, reached, sender];
  assert.deepEqual(table.choose(9, all), [sender, reached, stranger, off, silent]);
  assert.deepEqual(table.choose(9, all, { mayBeSilent: false }), [sender, reached, stranger, off]);
  noteGoodBytes(silent, 1);
  assert.equal(table.choose(9, all).at(-1), off);
});

test('a peer that cannot be reached is left alone for a time that doubles', () => {
  const table = new PeerTable();
  const peer = table.add(at('10.0.0.1'));
  noteUnreachable(peer);
  assert.deepEqual(table.choose(1, [peer]), []);
  const beganAtMs = peer.notBeforeMs;
  noteUnreachable(peer, beganAtMs);
  assert.equal(peer.notBeforeMs, beganAtMs + 10_000);
  noteReached(peer);
  noteUnreachable(peer, beganAtMs + 10_000);
  assert.equal(peer.notBeforeMs, beganAtMs + 15_000);
});

test('connections to a peer that fail together count once', () => {
  const table = new PeerTable();
  const peer = table.add(at('10.0.0.1'));
  for (let torrent = 0; torrent < 64; torrent++) noteUnreachable(peer, 1_000 + torrent);
  assert.equal(peer.notBeforeMs, 6_000);
});

test('found peers are bounded, per host and in all; named and useful peers stay', () => {
  const table = new PeerTable();
  const named = table.add(at('10.9.9.9'));
  const good = table.addFound(at('10.8.8.8'), 'lan', NOWHERE)!;
  good.bytes = 1;
  for (let port = 1; port <= 65_535; port++) table.addFound({ host: '10.0.0.1', port }, 'lan', NOWHERE);
  assert.equal([...table.all()].length, 2 + MAX_PEERS_PER_HOST);
  for (let index = 0; index < 3 * MAX_PEERS; index++) {
    table.addFound(at(`10.${1 + (index >> 8)}.${index & 255}.1`), 'dht', NOWHERE);
  }
  assert.equal([...table.all()].length, MAX_PEERS);
  assert.ok(table.get(named.address) === named && table.get(good.address) === good);
});

test('a liar is not found again after it left the table', () => {
  const table = new PeerTable();
  const liar = table.addFound(at('10.0.0.1'), 'lan', NOWHERE)!;
  table.ban(liar.address, 'lied');
  for (let index = 0; index < 2 * MAX_PEERS; index++) {
    table.addFound({ host: `10.0.0.${2 + (index % 60)}`, port: 1 + index }, 'lan', NOWHERE);
  }
  for (let index = 0; index < MAX_PEERS; index++)
    table.addFound(at(`10.${1 + (index >> 8)}.${index & 255}.1`), 'dht', NOWHERE);
  assert.equal(table.get(liar.address), undefined);
  assert.equal(table.addFound(at('10.0.0.1'), 'lan', NOWHERE), undefined);
});
