/** What a socket brings arrives whole and in order, wherever its chunks are cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Wire from 'bittorrent-protocol';
import * as fc from 'fast-check';
import { receive, targetKey } from '../../src/swarm/direct-payload.ts';
import { useNarExchange } from '../../src/swarm/nar-exchange.ts';
import { stateOf } from '../../src/swarm/wire-state.ts';
import { tuneWebTorrent } from '../../src/swarm/wire-tuning.ts';
import { handshakeOf, ID, message, numbers } from '../support/raw-peer.ts';
import type { InfoHash } from '../../src/nix/brands.ts';

tuneWebTorrent();
const INFO_HASH = 'a'.repeat(40) as InfoHash;
const BLOCKS = [40, 1, 300, 16].map((length, index) => ({ index, length, bytes: Buffer.alloc(length, 65 + index) }));

/** A connection on which blocks were asked for, and a log of what the wire made of what came. */
function open(): { wire: Wire; log: string[] } {
  const wire = new Wire('tcp');
  const log: string[] = [];
  wire.on('error', () => undefined);
  wire.handshake(INFO_HASH, 'b'.repeat(40), {});
  receive(wire, Buffer.concat([handshakeOf(INFO_HASH), message(ID.UNCHOKE)]));
  wire.on('have', (index: number) => log.push(`have ${index}`));
  for (const { index, length } of BLOCKS) {
    const target = Buffer.alloc(length);
    stateOf(wire).asked.set(targetKey(index, 0), { index, first: 0, count: 1, target });
    wire.request(index, 0, length, (error, bytes) => log.push(error?.message ?? Buffer.from(bytes).toString()));
  }
  return { wire, log };
}

const piece = (index: number, bytes: Buffer): Buffer => message(ID.PIECE, Buffer.concat([numbers(index, 0), bytes]));
const STREAM = Buffer.concat([
  ...BLOCKS.flatMap(({ index, bytes }) => [message(ID.HAVE, numbers(index)), Buffer.alloc(4), piece(index, bytes)]),
  message(ID.HAVE, numbers(99)),
]);
const EXPECTED = [...BLOCKS.flatMap(({ index, bytes }) => [`have ${index}`, bytes.toString()]), 'have 99'];

test('blocks and messages come out the same, however they are cut', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat({ max: STREAM.length }), { maxLength: 40 }), (cuts) => {
      const { wire, log } = open();
      const places = [0, ...cuts.toSorted((a, b) => a - b), STREAM.length];
      for (const [turn, from] of places.slice(0, -1).entries()) receive(wire, STREAM.subarray(from, places[turn + 1]));
      assert.deepEqual(log, EXPECTED);
    }),
  );
});

test('a block goes to the place that was made for it, and no other does', () => {
  const { wire } = open();
  const target = stateOf(wire).asked.get(targetKey(2, 0))?.target;
  receive(wire, piece(2, BLOCKS[2]!.bytes));
  assert.deepEqual(target, BLOCKS[2]!.bytes);
  // Another length than was asked for, and a block that nobody asked for: the wire's to judge.
  const other = stateOf(wire).asked.get(targetKey(0, 0))?.target;
  receive(wire, piece(0, Buffer.alloc(41, 1)));
  receive(wire, piece(7, Buffer.alloc(40, 1)));
  assert.deepEqual(other, Buffer.alloc(40));
  assert.equal(stateOf(wire).unaskedBytes, 81);
});

test('parts of small NARs come out the same, however they are cut', async () => {
  const nar = Buffer.alloc(90_000, 'nar');
  const head = (id: number, offset: number): Buffer => {
    const bytes = Buffer.alloc(13, 2);
    bytes.writeUInt32BE(id, 1);
    bytes.writeUInt32BE(nar.length, 5);
    bytes.writeUInt32BE(offset, 9);
    return bytes;
  };
  const cut = async (cuts: readonly number[]): Promise<void> => {
    const wire = new Wire('tcp');
    wire.handshake(INFO_HASH, 'b'.repeat(40), {});
    receive(wire, handshakeOf(INFO_HASH));
    const exchange = useNarExchange(
      wire,
      () => Promise.resolve(undefined),
      () => undefined,
    );
    wire.peerExtendedMapping['nar_exchange'] = 9;
    const ownId = Number(Object.entries(wire.extendedMapping).find(([, name]) => name === 'nar_exchange')?.[0]);
    const asked = exchange.ask(INFO_HASH, nar.length, {
      isLineSilent: () => false,
      patienceMs: 10_000,
      signal: new AbortController().signal,
    });
    const stream = Buffer.concat(
      [0, 32_768, 65_536].map((offset) =>
        message(ID.EXTENDED, Buffer.concat([Buffer.of(ownId), head(1, offset), nar.subarray(offset, offset + 32_768)])),
      ),
    );
    const places = [0, ...cuts.toSorted((a, b) => a - b), stream.length];
    for (const [turn, from] of places.slice(0, -1).entries()) receive(wire, stream.subarray(from, places[turn + 1]));
    assert.ok(nar.equals((await asked) ?? Buffer.alloc(0)));
  };
  await fc.assert(fc.asyncProperty(fc.uniqueArray(fc.nat({ max: 90_057 }), { maxLength: 12 }), cut), { numRuns: 40 });
});
