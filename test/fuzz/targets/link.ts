import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PeerTable } from '../../../src/discovery/peer-table.ts';
import { formatOpening, OUR_EXTENSION_ID } from '../../../src/exchange/messages/handshake.ts';
import { Patience } from '../../../src/exchange/link/patience.ts';
import { RequestsRoom } from '../../../src/exchange/answers/requests-room.ts';
import { LeastSent } from '../../../src/exchange/answers/least-sent.ts';
import { formatMessage } from '../../../src/exchange/messages/format-message.ts';
import { Link, type LinkEvents } from '../../../src/exchange/link/link.ts';
import type { LinkContext } from '../../../src/exchange/link/link-context.ts';
import { prefixOf, type Message } from '../../../src/exchange/messages/messages.ts';
import { WantsRoom } from '../../../src/exchange/link/wants-room.ts';
import { WantedFiles } from '../../../src/exchange/link/wanted.ts';
import type { InfoHash, StoreHash } from '../../../src/nix/brands.ts';
import { NARINFOS_PER_SECOND, PROCESSOR_TIME } from '../../../src/wire/bounds.ts';
import { PacketBudget } from '../../../src/wire/packet-budget.ts';
import { ProcessorBudget } from '../../../src/wire/processor-budget.ts';
import { SendBudget } from '../../../src/wire/send-budget.ts';
import { GROUP, madeFile, MadeOffer } from '../../exchange/exchange-fixture.ts';
import { Random } from '../random.ts';
import type { FuzzTarget } from '../target.ts';

const HELD = madeFile(300_000, 1);
const WANTED = madeFile(5_000_000, 2);
const HASH = 'a'.repeat(32) as StoreHash;
const PREFIXES = [prefixOf(HELD.file), prefixOf(WANTED.file)];
/** Limit on the growth of the process: far more than one link may hold, and far less than strangers send. */
const MAX_GROWTH_BYTES = 256 * 1024 * 1024;

/** Messages of a member, among them answers to our own requests 1 (a range), 2 (any range) and 3 (a narinfo). */
const SOUND: readonly Message[] = [
  { kind: 'want', batch: 1, prefixes: PREFIXES },
  { kind: 'haveMap', batch: 1, bitmap: Buffer.of(0x80) },
  { kind: 'have', prefixes: PREFIXES },
  { kind: 'unwant', prefixes: PREFIXES },
  { kind: 'pieces', prefix: PREFIXES[1]!, count: 5, bitmap: Buffer.of(0xa0) },
  { kind: 'piece', prefix: PREFIXES[1]!, index: 3 },
  { kind: 'get', id: 1, file: HELD.file, from: 0, length: 100 },
  { kind: 'get', id: 2, file: HELD.file, from: 0, length: 300_000 },
  { kind: 'any', id: 3, candidates: PREFIXES.map((prefix) => ({ prefix, from: 0, length: 50 })) },
  { kind: 'cancel', id: 2 },
  { kind: 'narinfoGet', id: 4, hashes: [HASH] },
  { kind: 'data', id: 1, bytes: Buffer.alloc(64) },
  { kind: 'picked', id: 2, index: 0 },
  { kind: 'data', id: 2, bytes: Buffer.alloc(64) },
  { kind: 'refuse', id: 1, reason: 'absent' },
  { kind: 'narinfo', id: 3, index: 0, text: Buffer.from('StorePath: x\n') },
  { kind: 'fetching', fetches: PREFIXES.map((prefix) => ({ prefix, heldBytes: 9 })) },
  { kind: 'edition', group: 'ab'.repeat(20) as InfoHash, seq: 1, infoHash: 'cd'.repeat(20) as InfoHash },
];

/** Number of inputs with many sound messages: a connection ends at its first wrong one. 100,000 inputs bring a million. */
const TALKS = 100;
const TALK_MESSAGES = 32;

/** Returns messages of a member that may come in any order. Each request has a number of its own. */
function talk(random: Random): Buffer {
  const messages = Array.from({ length: TALK_MESSAGES }, (_, id): Message =>
    random.pick<Message>([
      { kind: 'want', batch: id, prefixes: PREFIXES },
      { kind: 'have', prefixes: PREFIXES },
      { kind: 'unwant', prefixes: PREFIXES },
      { kind: 'pieces', prefix: PREFIXES[1]!, count: 5, bitmap: Buffer.of(0xa0) },
      { kind: 'piece', prefix: PREFIXES[1]!, index: random.below(5) },
      { kind: 'get', id: 100 + id, file: HELD.file, from: random.below(1000), length: 1 + random.below(300) },
      { kind: 'any', id: 100 + id, candidates: PREFIXES.map((prefix) => ({ prefix, from: 0, length: 50 })) },
      { kind: 'cancel', id: 100 + random.below(1 + id) },
      { kind: 'narinfoGet', id: 100 + id, hashes: [HASH] },
      { kind: 'fetching', fetches: PREFIXES.map((prefix) => ({ prefix, heldBytes: random.below(1e6) })) },
      { kind: 'edition', group: 'ab'.repeat(20) as InfoHash, seq: id, infoHash: 'cd'.repeat(20) as InfoHash },
    ]),
  );
  return Buffer.concat(messages.map((message) => formatMessage(message, OUR_EXTENSION_ID)));
}

/** A socket without another side, which takes everything that is sent. */
class FakeSocket extends Duplex {
  readonly remoteAddress = '127.0.0.1';
  readonly remotePort = 1;

  override _read(): void {
    // nothing comes after the first bytes
  }

  override _write(_chunk: unknown, _encoding: unknown, done: () => void): void {
    done();
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }
}

/** One connection of the exchange, in both roles, up to the first wrong message of its peer. */
export function link(): FuzzTarget {
  const offer = new MadeOffer();
  offer.add(HELD);
  const wanted = new WantedFiles();
  wanted.add([{ file: WANTED.file, sizeBytes: WANTED.bytes.length }]);
  const context: LinkContext = {
    peerId: Buffer.alloc(20, 'a'),
    port: () => 1,
    peers: new PeerTable(),
    networks: { includes: () => true },
    mayHave: () => true,
    wanted,
    offer,
    budget: new SendBudget(),
    wantsRoom: new WantsRoom(),
    narInfos: new PacketBudget(NARINFOS_PER_SECOND),
    requestsRoom: new RequestsRoom(),
    processor: new ProcessorBudget(PROCESSOR_TIME),
    leastSent: new LeastSent(),
    patience: new Patience(),
    readBuffer: Buffer.alloc(0),
    downloadLimit: () => undefined,
    uploadLimit: () => undefined,
    onUpload: () => undefined,
  };
  const { signal } = new AbortController();
  const range = { file: WANTED.file, from: 0, length: 1000 };
  let received = 0;
  const onBytes = (bytes: Uint8Array): void => {
    received += bytes.length;
  };
  const events: LinkEvents = {
    opened: (opened) => {
      void opened.get(range, onBytes, signal);
      void opened.any([range], { picked: (index) => assert.equal(index, 0), bytes: onBytes }, signal);
      void opened.narInfos([HASH], signal);
    },
    have: (_link, file) => assert.equal(file, WANTED.file),
    piece: (_link, file) => assert.equal(file, WANTED.file),
    edition: () => undefined,
    known: () => undefined,
    closed: () => undefined,
  };
  const opening = formatOpening(GROUP, Buffer.alloc(20, 'b'), 6881);
  const frames = SOUND.map((message) => formatMessage(message, OUR_EXTENSION_ID));
  const talks = Array.from({ length: TALKS }, (_, seed) => talk(new Random(seed)));
  const rssBytes = process.memoryUsage().rss;
  return {
    corpus: [Buffer.concat(frames), ...frames, Buffer.concat(frames.slice(11)), ...talks],
    words: [
      '\0\0\0\x07\x14\x01',
      '\x14\x01',
      '\x14\0',
      ...PREFIXES.map((prefix) => prefix.slice(0, 4)),
      '\xff\xff\xff\xff',
    ],
    async read(input) {
      received = 0;
      const head = Buffer.concat([opening, input]);
      const socket = new FakeSocket() as unknown as Socket;
      const made = Link.adopt(
        socket,
        { infoHash: GROUP, cipher: undefined, head },
        { host: '127.0.0.1', port: 1 },
        // With the budgets of the inputs before, most would not be read.
        { ...context, processor: new ProcessorBudget(PROCESSOR_TIME), narInfos: new PacketBudget(NARINFOS_PER_SECOND) },
        events,
      );
      await nextTurn();
      assert.ok(received <= 2000, 'no byte that nobody asked for is taken');
      made.drop();
      assert.deepEqual([made.openRequests, made.inFlightBytes, made.heldBytes], [0, 0, 0]);
    },
    async finish() {
      await nextTurn();
      assert.equal(offer.openFiles, 0);
      assert.ok(process.memoryUsage().rss - rssBytes < MAX_GROWTH_BYTES);
    },
  };
}
