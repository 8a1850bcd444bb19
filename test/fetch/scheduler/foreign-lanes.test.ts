/** BitTorrent clients outside our groups that have every NAR, beside a cache. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { UNPROVEN_SLOTS } from '../../../src/fetch/scheduler/lanes.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { Network } from '../../../src/swarm/network.ts';
import { madeFile, type MadeFile } from '../../exchange/exchange-fixture.ts';
import { startSite } from '../../support/http-site.ts';
import { ID, numbers, startRawSeed, type RawPeer } from '../../support/raw-peer.ts';
import { startSilentPeer } from '../../support/silent-peer.ts';
import { HOST, tempDir, torrentOf } from '../../swarm/swarm-fixture.ts';
import { infoOf } from '../walk/narinfos.ts';

const FILES = Array.from({ length: 40 }, (_, index) => madeFile(1000, index + 1));
const BYTES = new Map(FILES.map(({ bytes }) => [torrentOf(bytes).infoHash, bytes]));

function jobOf({ file: fileHash, bytes }: MadeFile, index: number): NarJob {
  const info = infoOf(`blob-${index}`, [], { fileHash, fileSize: bytes.length, url: `nar/${fileHash}.nar.xz` });
  const torrent = torrentOf(bytes);
  return { fileHash, sizeBytes: bytes.length, extension: 'xz', info, storePaths: [info.storePath], torrent };
}

interface Fetch {
  /** Number of NARs that have come from each kind of source, so far. */
  readonly nars: { peers: number; upstream: number };
  readonly done: Promise<void>;
}

/** Begins to fetch all NARs from a client at this port, and from a cache if wanted. */
async function startFetch(t: TestContext, port: number, hasCache: boolean): Promise<Fetch> {
  const site = await startSite((request, response) => {
    const found = FILES.find(({ file }) => request.url?.includes(file));
    return void (found === undefined ? response.writeHead(404).end() : response.end(found.bytes));
  });
  t.after(() => site[Symbol.asyncDispose]());
  const network = await Network.join({
    scope: 'lan',
    listen: HOST,
    peers: [{ host: HOST, port }],
    dht: false,
    lan: false,
  });
  t.after(() => network.close());
  const store = await FileStore.open(await tempDir(t), { create: true });
  const session = await PartialSession.open(store);
  t.after(() => session[Symbol.asyncDispose]());
  const http = new HttpClient();
  t.after(() => http.close());
  const nars = { peers: 0, upstream: 0 };
  const scheduler = new Scheduler({
    store,
    session,
    network,
    upstreams: hasCache ? [parseUpstream(site.url)] : [],
    http,
    tell: (event: FetchEvent) => void (event.type === 'nar-bytes' && nars[event.source]++),
    onFetched: () => undefined,
  });
  return { nars, done: scheduler.run(FILES.map(jobOf), t.signal) };
}

/** Fetches from the cache, beside a client that gives nothing. */
async function fetchBeside(t: TestContext, port: number, connections: () => number): Promise<void> {
  const { nars, done } = await startFetch(t, port, true);
  await done;
  assert.deepEqual(nars, { peers: 0, upstream: FILES.length });
  // Eight, unless this machine is so busy that it does not answer itself in time.
  assert.ok(connections() > 0 && connections() < FILES.length, `${connections()} connections`);
}

test('a client that takes requests and sends nothing is not asked for each NAR', { timeout: 180_000 }, async (t) => {
  await using seed = await startRawSeed(undefined, (peer) => {
    peer.send(ID.HAVE_ALL);
    peer.send(ID.UNCHOKE);
  });
  await fetchBeside(t, seed.port, () => seed.peers.length);
});

test(
  'a client that accepts connections and says nothing is not asked for each NAR',
  { timeout: 180_000 },
  async (t) => {
    await using seed = await startSilentPeer();
    const port = Number(seed.address.slice(seed.address.indexOf(':') + 1));
    await fetchBeside(t, port, () => seed.sockets.size);
  },
);

test('a client that has none of the NARs is not asked for each', { timeout: 180_000 }, async (t) => {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.once('data', () => socket.destroy());
  }).listen(0, HOST);
  t.after(() => void server.close());
  await once(server, 'listening');
  await fetchBeside(t, (server.address() as AddressInfo).port, () => connections);
});

test('a client that has sent something is asked for many NARs at once', { timeout: 180_000 }, async (t) => {
  const waiting: (() => void)[] = [];
  let isOpen = false;
  const answer = (peer: RawPeer, payload: Buffer): void => {
    const [index, offset, length] = [0, 4, 8].map((at) => payload.readUInt32BE(at)) as [number, number, number];
    const bytes = BYTES.get(peer.infoHash)?.subarray(offset, offset + length) ?? Buffer.alloc(0);
    peer.send(ID.PIECE, Buffer.concat([numbers(index, offset), bytes]));
  };
  await using seed = await startRawSeed(undefined, (peer) => {
    peer.send(ID.HAVE_ALL);
    peer.send(ID.UNCHOKE);
    peer.onMessage(({ id, payload }) => {
      if (id !== ID.REQUEST) return;
      if (isOpen) answer(peer, payload);
      else waiting.push(() => answer(peer, payload));
    });
  });
  const { nars, done } = await startFetch(t, seed.port, false);
  while (waiting.length < UNPROVEN_SLOTS) await sleep(5, undefined, { signal: t.signal });
  assert.equal(seed.peers.length, UNPROVEN_SLOTS, 'before the first byte');
  waiting.shift()?.();
  while (waiting.length < FILES.length - 1) await sleep(5, undefined, { signal: t.signal });
  isOpen = true;
  for (const send of waiting) send();
  await done;
  assert.deepEqual(nars, { peers: FILES.length, upstream: 0 });
});
