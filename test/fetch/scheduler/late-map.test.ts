/** A hash map is found while members or caches send the NARs that it lists. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import type { FileHash, StorePath } from '../../../src/nix/brands.ts';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import type { HeldNars } from '../../../src/serve/held-nars.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { Network } from '../../../src/swarm/network.ts';
import { startSite } from '../../support/http-site.ts';
import { HOST, PIECE, startSeeder, tempDir, torrentOf as torrentOfBytes } from '../../swarm/swarm-fixture.ts';
import { endSoon, madeFile, startMember, type MadeFile } from '../../exchange/exchange-fixture.ts';
import { readNarInfo, TOP } from '../../nix/fixtures.ts';

after(endSoon);

test('a NAR that members complete while torrents are looked up counts as fetched', { timeout: 180_000 }, async (t) => {
  const files = [1, 2, 3].map((seed) => madeFile(100_000, seed));
  const jobs = files.map(jobOf);
  await using client = await startMember();
  await using seeder = await startMember();
  client.meet(seeder);
  const fetched = new Set<FileHash>();
  const store = await FileStore.open(await tempDir(t), { create: true });
  const scheduler = new Scheduler({
    store,
    session: await PartialSession.open(store),
    network: networkOf(client),
    upstreams: [],
    http: new HttpClient(),
    tell: () => undefined,
    onFetched: ({ fileHash }) => fetched.add(fileHash),
    held: {
      isShared: async () => true,
      add: () => undefined,
      begin: () => ({ add: () => undefined, end: () => undefined }),
    } as unknown as HeldNars,
    standstillMs: 5_000,
  });
  const run = scheduler.run(jobs, new AbortController().signal);
  while ([...seeder.members.open].every((member) => !files.every(({ file }) => member.wants(file)))) await sleep(5);
  let lookedUp = 0;
  let first: MadeFile | undefined;
  await scheduler.attach(async ({ fileHash }) => {
    const made = files.find(({ file }) => file === fileHash)!;
    lookedUp++;
    if (lookedUp === 1) first = made;
    if (lookedUp === 2) {
      seeder.offer.add(first!);
      while (seeder.uploadedBytes < first!.bytes.length) await sleep(5);
      seeder.offer.add(...files.filter((one) => one !== first));
      while (fetched.size < 2) await sleep(5);
    }
    return torrentOf(made);
  });
  await run;
  assert.equal(fetched.size, 3);
  for (const job of jobs) assert.ok(existsSync(scheduler.pathOf(job)));
});

/** Bytes that BitTorrent clients are asked for at a time. */
const BLOCK = 16 * 1024;
/** A NAR of five pieces. */
const LARGE = madeFile(5 * PIECE, 9);

/** A fetch of {@link LARGE} without a torrent, of which a cache sends a part. */
interface BegunFetch {
  readonly scheduler: Scheduler;
  readonly run: Promise<void>;
  /** Payload so far. */
  readonly bytes: { peers: number; upstream: number };
}

/**
 * Begins a fetch from a cache that sends the first bytes of the NAR and then nothing.
 *
 * @param first the bytes that it sends
 */
async function beginAtCache(t: TestContext, network: Network, first: Uint8Array): Promise<BegunFetch> {
  const site = await startSite((request, response) => {
    const from = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const status = from > 0 ? 206 : 200;
    const [last, size] = [LARGE.bytes.length - 1, LARGE.bytes.length];
    const range = from > 0 ? { 'content-range': `bytes ${from}-${last}/${size}` } : {};
    response.writeHead(status, { 'content-length': size - from, ...range }).flushHeaders();
    response.write(first.subarray(from));
  });
  t.after(() => site[Symbol.asyncDispose]());
  const store = await FileStore.open(await tempDir(t), { create: true });
  const session = await PartialSession.open(store);
  t.after(() => session[Symbol.asyncDispose]());
  const http = new HttpClient();
  t.after(() => http.close());
  const bytes = { peers: 0, upstream: 0 };
  const scheduler = new Scheduler({
    store,
    session,
    network,
    upstreams: [parseUpstream(site.url)],
    http,
    tell: (event) => void (event.type === 'nar-bytes' && (bytes[event.source] += event.bytes)),
    onFetched: () => undefined,
  });
  const run = scheduler.run([jobOf(LARGE, 1)], t.signal);
  run.catch(() => undefined); // awaited by the test
  while (bytes.upstream < first.length) await sleep(5, undefined, { signal: t.signal });
  return { scheduler, run, bytes };
}

test(
  'a NAR that a cache has begun comes from BitTorrent clients if the cache stalls',
  { timeout: 180_000 },
  async (t) => {
    const path = join(await tempDir(t), 'large');
    await writeFile(path, LARGE.bytes);
    const seeder = await startSeeder(t, [
      { torrent: torrentOf(LARGE), files: [{ path, sizeBytes: LARGE.bytes.length }] },
    ]);
    const peers = [{ host: HOST, port: seeder.port }];
    const network = await Network.join({ scope: 'lan', listen: HOST, peers, dht: false, lan: false });
    t.after(() => network.close());
    const { scheduler, run, bytes } = await beginAtCache(t, network, LARGE.bytes.subarray(0, PIECE + BLOCK));
    await scheduler.attach(async () => torrentOf(LARGE));
    await run;
    assert.deepEqual(bytes, { upstream: PIECE + BLOCK, peers: LARGE.bytes.length - PIECE - BLOCK });
  },
);

test(
  'members hear of a NAR that a cache has begun, and only the wrong piece of the cache comes twice',
  { timeout: 180_000 },
  async (t) => {
    await using client = await startMember();
    await using seeder = await startMember({ files: [LARGE] });
    client.meet(seeder);
    const wrong = Buffer.from(LARGE.bytes.subarray(0, 3 * PIECE));
    wrong[PIECE + 1]! ^= 1;
    const { scheduler, run, bytes } = await beginAtCache(t, networkOf(client), wrong);
    await scheduler.attach(async () => torrentOf(LARGE));
    await run;
    assert.deepEqual(bytes, { upstream: 3 * PIECE, peers: 3 * PIECE });
    assert.deepEqual(await readFile(scheduler.pathOf(jobOf(LARGE, 1))), LARGE.bytes);
  },
);

function jobOf({ file, bytes }: MadeFile, index: number): NarJob {
  const storePath = `/nix/store/${String(index).repeat(32)}-path` as StorePath;
  const info = { ...parseNarInfo(readNarInfo(TOP)), storePath, fileHash: file };
  return {
    fileHash: file,
    sizeBytes: bytes.length,
    extension: 'xz',
    info,
    storePaths: [storePath],
    torrent: undefined,
  };
}

function torrentOf({ bytes }: MadeFile): NonNullable<NarJob['torrent']> {
  return torrentOfBytes(bytes);
}

/** A network that has only members. */
function networkOf({ members, peers }: Awaited<ReturnType<typeof startMember>>): Network {
  const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
  return network as unknown as Network;
}
