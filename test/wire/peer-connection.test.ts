/** Messages between a peer and the swarm, both simulated, one by one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Block } from '../../src/wire/block-answer.ts';
import { MessageReader } from '../../src/wire/message-reader.ts';
import { ProcessorBudget } from '../../src/wire/processor-budget.ts';
import type { PeerConnection, PeerConnectionOptions } from '../../src/wire/peer-connection.ts';
import type { IdleSocket } from '../support/idle-socket.ts';
import { loneConnection } from '../support/lone-connection.ts';
import { handshakeOf, ID, message, numbers } from '../support/raw-peer.ts';

const INFO_HASH = 'a'.repeat(40);
const BLOCK = 16_384;
const EXTENSIONS = { 1: 'ut_metadata', 2: 'lt_donthave' };

/** Fills blocks with the numbers of their pieces. */
function readNumbers(targets: readonly Uint8Array[], { index }: Block): Promise<void> {
  for (const target of targets) target.fill(index);
  return Promise.resolve();
}

function pieceOf(index: number, offset: number, length = BLOCK): Buffer {
  return message(ID.PIECE, Buffer.concat([numbers(index, offset), Buffer.alloc(length, index)]));
}

class Conversation {
  readonly socket: IdleSocket;
  readonly connection: PeerConnection;
  readonly #toSwarm: Buffer[] = [];

  /** @param hasFast whether the peer speaks the fast extension */
  constructor(options: Partial<PeerConnectionOptions> = {}, hasFast = true) {
    const head = handshakeOf(INFO_HASH);
    if (!hasFast) head[27] = 0;
    const { socket, connection } = loneConnection(head, { read: readNumbers, ...options });
    this.socket = socket;
    this.connection = connection;
    const reader = new MessageReader();
    this.connection.on('data', (bytes: Buffer) => reader.read(bytes, (one) => this.#toSwarm.push(Buffer.from(one))));
    this.connection.write(handshakeOf(INFO_HASH));
    this.connection.welcome(EXTENSIONS);
  }

  /** Sends a message as the peer. @returns the messages that reached the swarm since the last call */
  async peerSays(...messages: readonly Buffer[]): Promise<Buffer[]> {
    await nextTurn();
    this.socket.push(Buffer.concat(messages));
    return this.swarmHears();
  }

  async swarmHears(): Promise<Buffer[]> {
    await nextTurn();
    await nextTurn();
    return this.#toSwarm.splice(0).filter(({ length }) => length !== 68);
  }

  /** Sends a message as the swarm. @returns the messages that reached the peer since the last call */
  async swarmSays(...messages: readonly Buffer[]): Promise<Buffer> {
    await nextTurn();
    for (const one of messages) this.connection.write(one);
    return this.peerHears();
  }

  async peerHears(): Promise<Buffer> {
    await nextTurn();
    const all = Buffer.concat(this.socket.written.splice(0));
    return all.subarray(0, 20).equals(handshakeOf(INFO_HASH).subarray(0, 20)) ? all.subarray(68) : all;
  }
}

test('the swarm gets extensions in the library’s own form, and no metadata', async () => {
  const conversation = new Conversation();
  const handshake = Buffer.from(
    '\0d1:md6:ut_pexi9e11:ut_metadatai7ee13:metadata_sizei99e4:reqqi900e1:v3:\xff\xfe\xfde',
    'latin1',
  );
  assert.deepEqual(await conversation.peerSays(message(ID.EXTENDED, handshake)), [
    message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7ee4:reqqi512ee')),
  ]);
  assert.equal(conversation.connection.extensions.metadata.claimedBytes, 99);
  const question = Buffer.from('\x01d8:msg_typei0e5:piecei2e1:x3:\xff\xfe\xfde', 'latin1');
  assert.deepEqual(await conversation.peerSays(message(ID.EXTENDED, question)), [
    message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei0e5:piecei2ee')),
  ]);
});

test('the swarm does not notice a withdrawn extension, which would make it throw', async () => {
  const conversation = new Conversation();
  await conversation.peerSays(message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7eee')));
  assert.deepEqual(await conversation.peerSays(message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai0eee'))), [
    message(ID.EXTENDED, Buffer.from('\0d1:mde4:reqqi250ee')),
  ]);
  const question = message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei0e5:piecei0ee'));
  assert.deepEqual(await conversation.peerSays(question), []);
});

test('messages that nobody reads reach no library', async () => {
  const unread = [
    [9, 2],
    [13, 4],
    [17, 4],
    [21, 8],
    [255, 0],
  ].map(([id, bytes]) => message(id ?? 0, Buffer.alloc(bytes ?? 0)));
  assert.deepEqual(await new Conversation().peerSays(...unread, message(ID.HAVE, numbers(1))), [
    message(ID.HAVE, numbers(1)),
  ]);
});

test('requests metadata itself, and gives it to the swarm once it is right', async () => {
  const metadata = Buffer.alloc(20_000, 3);
  const conversation = new Conversation({ isMetadata: (bytes) => bytes.equals(metadata) });
  await conversation.peerSays(message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7ee13:metadata_sizei20000ee')));
  const { metadata: theirs } = conversation.connection.extensions;
  const fetched = theirs.fetch();
  const asks = [0, 1].map((piece) => message(ID.EXTENDED, Buffer.from(`\x07d8:msg_typei0e5:piecei${piece}ee`)));
  assert.deepEqual(await conversation.peerHears(), Buffer.concat(asks));
  const dataOf = (piece: number): Buffer =>
    message(
      ID.EXTENDED,
      Buffer.concat([
        Buffer.from(`\x01d8:msg_typei1e5:piecei${piece}e10:total_sizei20000ee`),
        metadata.subarray(piece * BLOCK, (piece + 1) * BLOCK),
      ]),
    );
  assert.deepEqual(await conversation.peerSays(dataOf(1), dataOf(0)), []);
  theirs.give((await fetched)!);
  assert.deepEqual(await conversation.swarmHears(), [
    message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7ee13:metadata_sizei20000ee')),
  ]);
  assert.deepEqual(await conversation.swarmSays(...asks), Buffer.alloc(0), 'the peer is not asked again');
  assert.deepEqual(await conversation.swarmHears(), [dataOf(0), dataOf(1)]);
});

test('a peer that is set aside seems to choke, until every reason has ended', async () => {
  const conversation = new Conversation();
  const { asking } = conversation.connection;
  await conversation.peerSays(message(ID.UNCHOKE));
  const block = numbers(0, 0, BLOCK);
  assert.deepEqual(await conversation.swarmSays(message(ID.REQUEST, block)), message(ID.REQUEST, block));
  asking.setAside('silent');
  asking.setAside('suspect');
  assert.deepEqual(await conversation.swarmHears(), [message(ID.CHOKE), message(ID.REJECT, block)]);
  assert.deepEqual(await conversation.peerHears(), message(ID.CANCEL, block));
  assert.deepEqual(
    await conversation.swarmSays(message(ID.REQUEST, block)),
    Buffer.alloc(0),
    'it left before the choke was heard',
  );
  assert.deepEqual(await conversation.swarmHears(), [message(ID.REJECT, block)]);
  const late = message(ID.PIECE, Buffer.concat([numbers(0, 0), Buffer.alloc(BLOCK)]));
  assert.deepEqual(await conversation.peerSays(late), [], 'it sends again, but is suspected');
  asking.takeBack('suspect');
  assert.deepEqual(await conversation.swarmHears(), [message(ID.UNCHOKE)]);
});

test('answers a request for a held block itself', async () => {
  const conversation = new Conversation();
  const block = Buffer.alloc(BLOCK, 7);
  conversation.connection.asking.downloader = {
    request: () => block,
    asked: () => assert.fail('the peer is asked'),
    received: () => undefined,
    lost: () => undefined,
  };
  await conversation.peerSays(message(ID.UNCHOKE));
  assert.deepEqual(await conversation.swarmSays(message(ID.REQUEST, numbers(0, 0, BLOCK))), Buffer.alloc(0));
  assert.deepEqual(await conversation.swarmHears(), [message(ID.PIECE, Buffer.concat([numbers(0, 0), block]))]);
});

test('withdraws the request for a block that another peer has sent', async () => {
  const conversation = new Conversation();
  await conversation.peerSays(message(ID.UNCHOKE));
  await conversation.swarmSays(message(ID.REQUEST, numbers(0, 0, BLOCK)));
  const block = Buffer.alloc(BLOCK, 7);
  conversation.connection.asking.onSentByOther(0, 0, block);
  assert.deepEqual(await conversation.peerHears(), message(ID.CANCEL, numbers(0, 0, BLOCK)));
  assert.deepEqual(await conversation.swarmHears(), [message(ID.PIECE, Buffer.concat([numbers(0, 0), block]))]);
});

for (const [how, answer] of [
  ['a block', message(ID.PIECE, Buffer.concat([numbers(0, 0), Buffer.alloc(BLOCK, 7)]))],
  ['a rejection', message(ID.REJECT, numbers(0, 0, BLOCK))],
] as const) {
  test(`${how} answers each request of the swarm for the block`, async () => {
    const conversation = new Conversation();
    await conversation.peerSays(message(ID.UNCHOKE));
    const request = message(ID.REQUEST, numbers(0, 0, BLOCK));
    assert.deepEqual(await conversation.swarmSays(request), request);
    assert.deepEqual(await conversation.swarmSays(request), Buffer.alloc(0), 'the peer is asked once');
    assert.deepEqual(await conversation.peerSays(answer), [answer, answer]);
  });
}

test('a peer that was asked twice for a block and is set aside has rejected it twice', async () => {
  const conversation = new Conversation();
  await conversation.peerSays(message(ID.UNCHOKE));
  const block = numbers(0, 0, BLOCK);
  await conversation.swarmSays(message(ID.REQUEST, block), message(ID.REQUEST, block));
  conversation.connection.asking.setAside('silent');
  const rejection = message(ID.REJECT, block);
  assert.deepEqual(await conversation.swarmHears(), [message(ID.CHOKE), rejection, rejection]);
});

test('sends its own messages between messages of the swarm, never within one', async () => {
  const conversation = new Conversation();
  const bitfield = message(ID.BITFIELD, Buffer.of(0xe0));
  await conversation.swarmSays(bitfield.subarray(0, 3));
  conversation.connection.toPeer(message(ID.CHOKE));
  assert.deepEqual(await conversation.swarmSays(bitfield.subarray(3)), Buffer.concat([bitfield, message(ID.CHOKE)]));
});

test('reads blocks that follow each other with one call, also across pieces, and asks the swarm for none', async () => {
  const reads: { readonly lengths: number[]; readonly first: Block }[] = [];
  const conversation = new Conversation({
    read: (targets, first) => {
      reads.push({ lengths: targets.map(({ length }) => length), first });
      return readNumbers(targets, first);
    },
  });
  await conversation.swarmSays(message(ID.UNCHOKE));
  const blocks = [
    [0, BLOCK],
    [1, 0],
    [0, 0],
  ] as const;
  const asks = blocks.map(([index, offset]) => message(ID.REQUEST, numbers(index, offset, BLOCK)));
  assert.deepEqual(await conversation.peerSays(...asks), []);
  assert.deepEqual(
    await conversation.peerHears(),
    Buffer.concat([pieceOf(0, BLOCK), withIndex(pieceOf(0, 0), 1), pieceOf(0, 0)]),
  );
  assert.deepEqual(
    reads.map(({ lengths, first }) => [first.index, first.offset, lengths]),
    [
      [0, BLOCK, [BLOCK, BLOCK]],
      [0, 0, [BLOCK]],
    ],
  );
});

/** The same block under the number of another piece. */
function withIndex(piece: Buffer, index: number): Buffer {
  piece.writeUInt32BE(index, 5);
  return piece;
}

test('rejects a block that cannot be read', async () => {
  const conversation = new Conversation({ read: () => Promise.reject(new Error('gone')) });
  await conversation.swarmSays(message(ID.UNCHOKE));
  const request = numbers(0, 0, BLOCK);
  await conversation.peerSays(message(ID.REQUEST, request));
  assert.deepEqual(await conversation.peerHears(), message(ID.REJECT, request));
});

for (const hasFast of [true, false]) {
  const how = hasFast ? 'told so with' : 'not answered without';
  test(`a peer that gets nothing stays choked, and is ${how} the fast extension`, async () => {
    const conversation = new Conversation({ gives: false }, hasFast);
    assert.deepEqual(await conversation.swarmSays(message(ID.UNCHOKE)), Buffer.alloc(0));
    const request = numbers(0, 0, BLOCK);
    assert.deepEqual(await conversation.peerSays(message(ID.REQUEST, request)), []);
    assert.deepEqual(await conversation.peerHears(), hasFast ? message(ID.REJECT, request) : Buffer.alloc(0));
  });
}

test('answers a peer that sends requests along with its interest', async () => {
  const conversation = new Conversation();
  const asks = [message(ID.INTERESTED), message(ID.REQUEST, numbers(0, 0, BLOCK))];
  assert.deepEqual(await conversation.peerSays(...asks), asks.slice(0, 1));
  assert.deepEqual(await conversation.peerHears(), pieceOf(0, 0));
  await conversation.swarmSays(message(ID.CHOKE));
  assert.deepEqual(await conversation.peerSays(...asks), asks.slice(0, 1));
  assert.deepEqual(await conversation.peerHears(), message(ID.REJECT, numbers(0, 0, BLOCK)), 'once');
});

test('rejects a request for a missing piece', async () => {
  const conversation = new Conversation({ holds: (index) => index !== 1 });
  await conversation.swarmSays(message(ID.UNCHOKE));
  const [here, missing] = [numbers(0, 0, BLOCK), numbers(1, 0, BLOCK)];
  await conversation.peerSays(message(ID.REQUEST, missing), message(ID.REQUEST, here));
  assert.deepEqual(await conversation.peerHears(), Buffer.concat([message(ID.REJECT, missing), pieceOf(0, 0)]));
});

for (const hasFast of [true, false]) {
  const how = hasFast ? 'block by block with' : 'as a whole without';
  test(`a choke ends all requests, ${how} the fast extension`, async () => {
    const disk = Promise.withResolvers<void>();
    const conversation = new Conversation({ read: () => disk.promise }, hasFast);
    await conversation.swarmSays(message(ID.UNCHOKE));
    await conversation.peerSays(message(ID.REQUEST, numbers(0, 0, BLOCK))); // is being read
    await conversation.peerSays(message(ID.REQUEST, numbers(1, 0, BLOCK))); // waits for that
    assert.ok(conversation.connection.heldBytes >= BLOCK);
    const rejected = hasFast ? [message(ID.REJECT, numbers(1, 0, BLOCK))] : [];
    assert.deepEqual(await conversation.swarmSays(message(ID.CHOKE)), Buffer.concat([message(ID.CHOKE), ...rejected]));
    disk.resolve();
    assert.equal(
      (await conversation.peerHears()).length,
      hasFast ? message(ID.PIECE, numbers(0, 0)).length + BLOCK : 0,
    );
    assert.equal(conversation.connection.heldBytes, 0);
  });
}

test('an opening of no bytes takes no time of the host', () => {
  let usedMs = 0;
  const clock = { nowMs: () => 0, usedMs: () => (usedMs += 1_000) };
  const time = new ProcessorBudget({ perSecondMs: 1, burstMs: 1 }, clock).of('127.0.0.1');
  const { connection } = loneConnection(Buffer.alloc(0), { time });
  assert.equal(time.isOver, false);
  connection.destroy();
});
