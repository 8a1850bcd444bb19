/** A hash map is found while members send the NARs that it lists. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { existsSync } from 'node:fs';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NarJob } from '../../src/fetch/job.ts';
import { Scheduler } from '../../src/fetch/scheduler.ts';
import { HttpClient } from '../../src/http/client.ts';
import type { FileHash, StorePath } from '../../src/nix/brands.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import type { HeldNars } from '../../src/serve/held-nars.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import type { Network } from '../../src/swarm/network.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';
import { tempDir } from '../swarm/swarm-fixture.ts';
import { endSoon, madeFile, startMember, type MadeFile } from '../exchange/exchange-fixture.ts';
import { readNarInfo, TOP } from '../nix/fixtures.ts';

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

function torrentOf({ file, bytes }: MadeFile): NonNullable<NarJob['torrent']> {
  return narTorrent({
    fileHash: file,
    extension: 'xz',
    sizeBytes: bytes.length,
    pieces: hash('sha1', bytes, 'buffer'),
  });
}

/** A network that has only members. */
function networkOf({ members, peers }: Awaited<ReturnType<typeof startMember>>): Network {
  const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
  return network as unknown as Network;
}
