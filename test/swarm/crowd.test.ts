/** Crowds of strangers that ask and do not read: the memory of a process of its own, and an honest client beside them. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { request } from 'node:http';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { OUR_EXTENSION_ID } from '../../src/exchange/messages/handshake.ts';
import { formatMessage } from '../../src/exchange/messages/format-message.ts';
import type { FilePrefix, Message } from '../../src/exchange/messages/messages.ts';
import type { FileHash, InfoHash, StoreHash } from '../../src/nix/brands.ts';
import { pieceLengthOf } from '../../src/torrent/canonical.ts';
import { MAX_HTTP_CONNECTIONS_PER_HOST, MAX_WANTS } from '../../src/wire/bounds.ts';
import { handshakeOf, ID, message, numbers, RawPeer } from '../support/raw-peer.ts';
import { MIB, tempDir } from './swarm-fixture.ts';

const LIMIT = { timeout: 180_000 };
/** Far below what the crowds would take without bounds: 700 MB to 4 GB each. */
const MAX_GROWTH_MIB = 400;
const BLOCK = 128 * 1024;
/** Pieces of the large NAR. */
const PIECES = (64 * MIB) / pieceLengthOf(64 * MIB);

interface Crowd {
  readonly port: number;
  readonly httpPort: number;
  readonly cohort: InfoHash;
  readonly infoHashes: readonly [InfoHash, InfoHash];
  readonly files: readonly [FileHash, FileHash];
  /** Peak memory of the process so far. */
  readonly peakMiB: () => Promise<number>;
}

async function serve(t: TestContext): Promise<Crowd> {
  const script = fileURLToPath(new URL('crowd-server.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [script, await tempDir(t)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const lines: Interface = createInterface({ input: child.stdout! });
  const [ready] = (await once(lines, 'line')) as [string];
  const peakMiB = async (): Promise<number> => {
    child.kill('SIGUSR2');
    const [line] = (await once(lines, 'line')) as [string];
    return (JSON.parse(line) as { peakMiB: number }).peakMiB;
  };
  return { ...(JSON.parse(ready) as Omit<Crowd, 'peakMiB'>), peakMiB };
}

/** Connects from one of many addresses of this machine, which look like many hosts. */
async function from(t: TestContext, host: number, port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: `127.0.${1 + (host >> 8)}.${host & 255}` });
  socket.on('error', () => undefined);
  t.after(() => socket.destroy());
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  socket.pause();
  return socket;
}

/** Fetches a block like any client. */
async function isServed({ port, infoHashes }: Crowd): Promise<void> {
  const peer = await RawPeer.connect(port, infoHashes[0]);
  peer.send(ID.INTERESTED);
  await peer.receive(ID.UNCHOKE);
  peer.send(ID.REQUEST, numbers(0, 0, BLOCK));
  assert.equal((await peer.receive(ID.PIECE)).length, 8 + BLOCK);
  peer.socket.destroy();
}

/** Makes sure that a peer that reads gets an answer to each request: those of a crowd must not end its connections. */
async function areAnswered({ port, infoHashes }: Crowd, asks: readonly Buffer[]): Promise<void> {
  const peer = await RawPeer.connect(port, infoHashes[0]);
  peer.send(ID.INTERESTED);
  await peer.receive(ID.UNCHOKE);
  for (const ask of asks) {
    peer.socket.write(ask);
    await peer.until(() => peer.messages.some(({ id }) => id === ID.PIECE));
    peer.messages.length = 0;
  }
  peer.socket.destroy();
}

/** Measures the peak memory over the seconds in which the requests of a crowd are read. Meanwhile, others are served. */
async function peakBesideOthers(crowd: Crowd): Promise<number> {
  for (let second = 0; second < 5; second++) {
    await sleep(1000); // no event tells that all requests have been read
    await isServed(crowd);
  }
  return crowd.peakMiB();
}

test('1,500 peers that ask and do not read take bounded memory, and others are served', LIMIT, async (t) => {
  const crowd = await serve(t);
  const asks = Array.from({ length: 400 }, (_, index) =>
    message(ID.REQUEST, numbers(index % PIECES, index < PIECES ? 0 : BLOCK, BLOCK)),
  );
  await areAnswered(crowd, asks);
  const before = await crowd.peakMiB();
  for (let count = 0; count < 1500; count++) {
    const socket = await from(t, count % 20, crowd.port);
    socket.write(Buffer.concat([handshakeOf(crowd.infoHashes[0]), message(ID.INTERESTED), ...asks]));
  }
  const grownMiB = (await peakBesideOthers(crowd)) - before;
  assert.ok(grownMiB < MAX_GROWTH_MIB, `grew by ${grownMiB} MiB`);
});

test('1,000 peers that ask for 2,000 short blocks each take bounded memory', LIMIT, async (t) => {
  const crowd = await serve(t);
  const asks = Array.from({ length: 2000 }, (_, index) => message(ID.REQUEST, numbers(index % PIECES, 0, 16_384)));
  await areAnswered(crowd, asks);
  const before = await crowd.peakMiB();
  const opening = Buffer.concat([handshakeOf(crowd.infoHashes[0]), message(ID.INTERESTED), ...asks]);
  for (let count = 0; count < 1000; count++) (await from(t, count % 20, crowd.port)).write(opening);
  const grownMiB = (await peakBesideOthers(crowd)) - before;
  assert.ok(grownMiB < MAX_GROWTH_MIB, `grew by ${grownMiB} MiB`);
});

test('1,000 handshakes that do not end take bounded memory, and others are served', LIMIT, async (t) => {
  const crowd = await serve(t);
  await isServed(crowd);
  const before = await crowd.peakMiB();
  for (let count = 0; count < 1000; count++)
    (await from(t, count % 20, crowd.port)).write(handshakeOf(crowd.cohort).subarray(0, 40));
  await isServed(crowd);
  const grownMiB = (await crowd.peakMiB()) - before;
  assert.ok(grownMiB < MAX_GROWTH_MIB / 4, `grew by ${grownMiB} MiB`);
});

suite('1,000 members that do not read take bounded memory, and others are served', () => {
  const say = (count: number, asked: (id: number) => Message): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, id) => formatMessage(asked(id), OUR_EXTENSION_ID)));
  const hashes = Array.from({ length: 256 }, (_, index) => String(index).padStart(32, '0') as StoreHash);
  const prefixOfNumber = (index: number): FilePrefix => index.toString(16).padStart(16, '0') as FilePrefix;

  const ASKS: Readonly<Record<string, (crowd: Crowd, member: number) => Buffer>> = {
    'ask for a small NAR': ({ files }) => say(500, (id) => ({ kind: 'get', id, file: files[1], from: 0, length: MIB })),
    'ask for a large NAR': ({ files }) =>
      say(500, (id) => ({ kind: 'get', id, file: files[0], from: 0, length: 64 * MIB })),
    'ask for narinfos': () => say(100, (id) => ({ kind: 'narinfoGet', id, hashes })),
    'look for as many files as they may': (_, member) =>
      say(MAX_WANTS / 4096, (batch) => ({
        kind: 'want',
        batch,
        prefixes: Array.from({ length: 4096 }, (__, index) => prefixOfNumber((member * 8 + batch) * 4096 + index)),
      })),
  };
  for (const [what, asks] of Object.entries(ASKS)) {
    test(`if they ${what}`, LIMIT, async (t) => {
      const crowd = await serve(t);
      await isServed(crowd);
      const before = await crowd.peakMiB();
      const hello = message(ID.EXTENDED, Buffer.from('\0d1:md13:nar_exchange2i2eee'));
      for (let count = 0; count < 1000; count++) {
        const socket = await from(t, count % 20, crowd.port);
        const peerId = `-XX0001-${String(count).padStart(12, '0')}`; // members with one id would share one link
        socket.write(Buffer.concat([handshakeOf(crowd.cohort, peerId), hello, asks(crowd, count)]));
      }
      const grownMiB = (await peakBesideOthers(crowd)) - before;
      assert.ok(grownMiB < MAX_GROWTH_MIB, `grew by ${grownMiB} MiB`);
    });
  }
});

suite('the HTTP mirror', () => {
  const GET = 'GET /shards/all.zst HTTP/1.1\r\nHost: x\r\n\r\n';

  /** Returns the length of a shard that another host gets. */
  async function shardBytes({ httpPort }: Crowd): Promise<number> {
    const asked = request({ port: httpPort, path: '/shards/all.zst', localAddress: '127.0.9.9', agent: false }).end();
    const [response] = (await once(asked, 'response')) as [AsyncIterable<Buffer>];
    let bytes = 0;
    for await (const chunk of response) bytes += chunk.length;
    return bytes;
  }

  test('survives 20,000 requests whose answers nobody reads', LIMIT, async (t) => {
    const crowd = await serve(t);
    await shardBytes(crowd);
    const before = await crowd.peakMiB();
    for (let host = 0; host < 8; host++) {
      for (let count = 0; count < MAX_HTTP_CONNECTIONS_PER_HOST; count++) {
        const socket = await from(t, host, crowd.httpPort);
        socket.write(GET.repeat(count === 0 ? 20_000 : 90));
      }
    }
    assert.equal(await shardBytes(crowd), 4 * MIB);
    const grownMiB = (await crowd.peakMiB()) - before;
    assert.ok(grownMiB < MAX_GROWTH_MIB, `grew by ${grownMiB} MiB`);
  });

  test('serves others beside 1,500 idle sockets of one host', LIMIT, async (t) => {
    const crowd = await serve(t);
    const sockets: Socket[] = [];
    for (let count = 0; count < 1500; count++) sockets.push(await from(t, 1, crowd.httpPort));
    assert.equal(await shardBytes(crowd), 4 * MIB);
    assert.ok(sockets.filter((socket) => !socket.resume().closed).length > 0);
  });

  test('answers pipelined requests in order', LIMIT, async (t) => {
    const crowd = await serve(t);
    const socket = await from(t, 1, crowd.httpPort);
    socket.write(`${GET}${GET.replace('all', 'zz')}${GET.replace('1.1\r\n', '1.1\r\nConnection: close\r\n')}`);
    let text = '';
    for await (const chunk of socket as AsyncIterable<Buffer>) text += chunk.toString('latin1');
    assert.deepEqual(
      [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status),
      ['200', '404', '200'],
    );
    assert.ok(text.length > 8 * MIB);
  });
});
