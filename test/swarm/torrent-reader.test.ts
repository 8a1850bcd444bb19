import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import bencode from 'bencode';
import type { InfoHash } from '../../src/nix/brands.ts';
import { infoHashOf } from '../../src/torrent/canonical.ts';
import type { Seed, Swarm } from '../../src/swarm/swarm.ts';
import type { TorrentReader } from '../../src/swarm/torrent-reader.ts';
import { ID, type RawPeer, startRawSeed } from '../support/raw-peer.ts';
import { peersAt, startSwarm, tempDir } from './swarm-fixture.ts';

const LIMIT = { timeout: 180_000 };
const PIECE_LENGTH = 16 * 1024;
const FILES: Readonly<Record<string, Buffer>> = {
  manifest: Buffer.from('narswarm 1\n'),
  'shards/00': randomBytes(100_000),
  'shards/01': randomBytes(50_000),
};

interface Multi {
  readonly infoHash: InfoHash;
  readonly seed: Seed;
}

/** Makes a torrent of several files, without checking their names. */
async function makeTorrent(t: TestContext, files: Readonly<Record<string, Buffer>> = FILES): Promise<Multi> {
  const dir = await tempDir(t);
  const all = Buffer.concat(Object.values(files));
  const sha1s: Buffer[] = [];
  for (let at = 0; at < all.length; at += PIECE_LENGTH) {
    sha1s.push(
      createHash('sha1')
        .update(all.subarray(at, at + PIECE_LENGTH))
        .digest(),
    );
  }
  const info = {
    files: Object.entries(files).map(([name, bytes]) => ({ length: bytes.length, path: name.split('/') })),
    name: 'narswarm',
    'piece length': PIECE_LENGTH,
    pieces: Buffer.concat(sha1s),
  };
  const onDisk = Object.values(files).map((bytes, index) => ({ path: join(dir, String(index)), bytes }));
  for (const { path, bytes } of onDisk) await writeFile(path, bytes);
  return {
    infoHash: infoHashOf(bencode.encode(info)),
    seed: {
      torrent: bencode.encode({ info }),
      files: onDisk.map(({ path, bytes }) => ({ path, sizeBytes: bytes.length })),
    },
  };
}

function startHost(t: TestContext, { infoHash, seed }: Multi): Promise<Swarm> {
  return startSwarm(t, { seeds: (asked) => Promise.resolve(asked === infoHash ? seed : undefined) });
}

interface Reading {
  readonly reader: TorrentReader;
  readonly client: Swarm;
  readonly read: (path: string, maxBytes?: number) => Promise<Uint8Array>;
  readonly abort: AbortController;
}

async function startReader(t: TestContext, infoHash: InfoHash, ...ports: readonly number[]): Promise<Reading> {
  const client = await startSwarm(t);
  const reader = await client.read(infoHash);
  t.after(() => reader.close());
  const abort = new AbortController();
  for (const peer of peersAt(client, ...ports)) reader.addPeer(peer);
  const read = (path: string, maxBytes = 1e6): Promise<Uint8Array> =>
    reader.readFile(path, { maxBytes, signal: abort.signal });
  return { reader, client, read, abort };
}

test('reads single files of a torrent of which only the infohash is known', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const host = await startHost(t, made);
  const { read, reader } = await startReader(t, made.infoHash, host.port);
  assert.deepEqual(Buffer.from(await read('manifest')), FILES['manifest']);
  assert.ok(reader.receivedBytes < 40_000, 'the shards were not fetched along');
  assert.deepEqual(Buffer.from(await read('shards/01')), FILES['shards/01']);
  assert.deepEqual(Buffer.from(await read('manifest')), FILES['manifest'], 'and again, from memory');
  const [first, second] = await Promise.all([read('shards/00'), read('shards/01')]);
  assert.deepEqual([first.length, second.length], [100_000, 50_000]);
});

test('refuses a file that is missing or too large', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const host = await startHost(t, made);
  const { read } = await startReader(t, made.infoHash, host.port);
  await assert.rejects(read('shards/02'), { code: 'INDEX_INVALID', message: /shards\/02 is missing/ });
  await assert.rejects(read('manifest', 10), { code: 'INDEX_INVALID', message: /has 11 bytes, more than 10/ });
});

test('names in a torrent do not become paths', LIMIT, async (t) => {
  const outside = join(await tempDir(t), 'outside');
  const made = await makeTorrent(t, {
    [`../../../../../..${outside}`]: randomBytes(10),
    '__proto__/x': randomBytes(10),
  });
  const host = await startHost(t, made);
  const { read } = await startReader(t, made.infoHash, host.port);
  await assert.rejects(read('manifest'), { code: 'INDEX_INVALID' });
  assert.equal((await read('__proto__/x')).length, 10);
  await assert.rejects(access(outside));
});

test('waits for peers until it is aborted', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const { read, abort } = await startReader(t, made.infoHash);
  const reading = read('manifest');
  abort.abort(new Error('enough'));
  await assert.rejects(reading, { message: 'enough' });
  await assert.rejects(read('manifest'), { message: 'enough' });
});

test('the wait for a file can be aborted, too', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const host = await startHost(t, made);
  const { read, abort } = await startReader(t, made.infoHash, host.port);
  await read('manifest');
  await host.close();
  const reading = read('shards/01');
  abort.abort(new Error('enough'));
  await assert.rejects(reading, { message: 'enough' });
});

test('closing the reader ends every wait', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const host = await startHost(t, made);
  const waiting = await startReader(t, made.infoHash);
  const forMetadata = waiting.read('manifest');
  await Promise.all([waiting.reader.close(), assert.rejects(forMetadata, { code: 'PEERS_FAILED' })]);
  await assert.rejects(waiting.read('manifest'), { code: 'PEERS_FAILED' });

  const { read, reader } = await startReader(t, made.infoHash, host.port);
  await read('manifest');
  await host.close();
  const forFile = read('shards/01');
  await Promise.all([reader.close(), assert.rejects(forFile, { code: 'PEERS_FAILED' })]);
});

test('a peer that sends wrong bytes is banned, and another one is asked', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const zeros = join(await tempDir(t), 'zeros');
  await writeFile(zeros, Buffer.alloc(150_011));
  const liar = await startHost(t, { ...made, seed: { ...made.seed, files: [{ path: zeros, sizeBytes: 150_011 }] } });
  const honest = await startHost(t, made);
  const { read, reader, client } = await startReader(t, made.infoHash, liar.port);
  const reading = read('shards/00');
  const isBanned = (): boolean => peersAt(client, liar.port)[0]?.banned !== undefined;
  while (!isBanned()) await sleep(10);
  for (const peer of peersAt(client, honest.port)) reader.addPeer(peer);
  assert.deepEqual(Buffer.from(await reading), FILES['shards/00']);
});

/** Starts a peer that claims to have metadata of so many bytes and answers each request for a piece of it. */
function metadataOf(sizeBytes: number, answer: (peer: RawPeer, piece: number) => void): (peer: RawPeer) => void {
  return (peer) => {
    peer.extended(0, `d1:md11:ut_metadatai3ee13:metadata_sizei${sizeBytes}ee`);
    peer.send(ID.HAVE_ALL);
    peer.onMessage(({ id, payload }) => {
      const piece = /8:msg_typei0e5:piecei(\d+)e/.exec(payload.toString('latin1'))?.[1];
      if (id === ID.EXTENDED && piece !== undefined) answer(peer, Number(piece));
    });
  };
}

/** A liar's answer instead of metadata, under our id of ut_metadata: the first extension in use. */
const METADATA: Readonly<Record<string, (piece: number) => string>> = {
  'unsound bencoding': (piece) => `d8:msg_typei1e5:piecei${piece}eel-3:`,
  'a piece from beyond the end': () => 'd8:msg_typei1e5:piecei99999ee0123',
  'a negative piece': () => 'd8:msg_typei1e5:piecei-1ee0123',
  'a piece without a number': () => 'd8:msg_typei1e3:pieee0123',
  'another torrent’s metadata': (piece) => `d8:msg_typei1e5:piecei${piece}eed4:name4:liare`,
};

for (const [name, lie] of Object.entries(METADATA)) {
  test(`a peer that sends ${name} as metadata is disconnected`, LIMIT, async (t) => {
    const made = await makeTorrent(t);
    const honest = await startHost(t, made);
    const sizeBytes = name.startsWith('another') ? 13 : 4;
    await using liar = await startRawSeed(
      made.infoHash,
      metadataOf(sizeBytes, (peer, piece) => peer.extended(1, lie(piece))),
    );
    const { read, reader, client } = await startReader(t, made.infoHash, liar.port);
    const reading = read('manifest');
    while (liar.peers.length === 0) await sleep(10);
    await liar.peers[0]?.closed();
    for (const peer of peersAt(client, honest.port)) reader.addPeer(peer);
    assert.deepEqual(Buffer.from(await reading), FILES['manifest']);
  });
}

for (const [sizeBytes, pieceBytes] of [
  [20, 2 ** 36],
  [20, 0],
  [20, -1],
  [2 ** 28, 2 ** 20],
] as const) {
  test(`a map of ${sizeBytes} bytes with pieces of ${pieceBytes} bytes is not opened`, LIMIT, async (t) => {
    const info = `d6:lengthi${sizeBytes}e4:name8:narswarm12:piece lengthi${pieceBytes}e6:pieces20:${'x'.repeat(20)}e`;
    const infoHash = createHash('sha1').update(info).digest('hex') as InfoHash;
    await using liar = await startRawSeed(
      infoHash,
      metadataOf(info.length, (peer, piece) => peer.extended(1, `d8:msg_typei1e5:piecei${piece}ee${info}`)),
    );
    const { read } = await startReader(t, infoHash, liar.port);
    const opened = read('manifest').then(
      () => 'opened',
      () => 'opened', // it has no manifest
    );
    while (liar.peers.length === 0) await sleep(10);
    const refused = liar.peers[0]?.closed().then(() => 'refused'); // then it waits for another peer
    assert.equal(await Promise.race([opened, refused]), 'refused');
  });
}

for (const sizeBytes of [-1, 0, 10_000_001, 999_999_999_999_999]) {
  test(`metadata of ${sizeBytes} bytes is not asked for`, LIMIT, async (t) => {
    const made = await makeTorrent(t);
    const honest = await startHost(t, made);
    const asked: number[] = [];
    await using liar = await startRawSeed(
      made.infoHash,
      metadataOf(sizeBytes, (_peer, piece) => asked.push(piece)),
    );
    const { read } = await startReader(t, made.infoHash, liar.port, honest.port);
    await read('manifest');
    assert.deepEqual(asked, []);
  });
}

test('an aborted wait leaves no listener behind', LIMIT, async (t) => {
  const made = await makeTorrent(t);
  const { read, abort } = await startReader(t, made.infoHash);
  const warned = once(process, 'warning', { signal: AbortSignal.timeout(300) }).then(
    ([warning]) => warning as Error,
    () => undefined,
  );
  const all = Array.from({ length: 8 }, () => read('manifest'));
  abort.abort();
  await Promise.allSettled(all);
  assert.equal(await warned, undefined);
});
