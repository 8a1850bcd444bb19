/** NARs that somebody waits for come before all others. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HurriedNars } from '../../../src/fetch/download/hurried-nars.ts';
import { namedFile } from '../../../src/fetch/plan/named-file.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { startHttpCache } from '../../support/http-cache.ts';
import { Lab } from '../../support/lab.ts';
import { WrittenCache, type WrittenPath } from '../../support/written-cache.ts';

const LIMIT = { timeout: 180_000 };
/** NARs that are requested at the same time: an order is given, and these have more than 1 MiB. */
const SLOTS = 4;

test('NARs come in the turn in which somebody asked for them, before and during the fetch', LIMIT, async () => {
  await using lab = await Lab.open();
  const written = await WrittenCache.create(await lab.folder('cache'), 'hurried-1');
  const paths: WrittenPath[] = [];
  for (let index = 0; index < 3 * SLOTS; index++)
    paths.push(await written.add(`path-${index}`, { contents: randomBytes(300_000).toString('hex') }));
  await using cache = await startHttpCache(written.dir);
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  cache.faults = gates.map(({ promise: until }) => ({ kind: 'hold', times: SLOTS, until }));
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  await using session = await PartialSession.open(store);
  await using http = new HttpClient();
  const hurried = new HurriedNars();
  const before = paths.slice(-SLOTS).toReversed();
  for (const { info } of before) hurried.add(namedFile(info)!.fileHash);
  const scheduler = new Scheduler({
    store,
    session,
    network: undefined,
    upstreams: [parseUpstream(cache.url)],
    http,
    hurried,
    placeOf: ({ info }) => paths.findIndex((path) => path.info.storePath === info.storePath) / paths.length,
    tell: () => undefined,
    onFetched: () => undefined,
  });
  const jobs = paths.map(({ info }) => {
    const { fileHash, sizeBytes, extension } = namedFile(info)!;
    return { fileHash, sizeBytes, extension, info, storePaths: [info.storePath], torrent: undefined };
  });
  const run = scheduler.run(jobs, new AbortController().signal);
  while (cache.requests.length < SLOTS) await sleep(10);
  const during = paths.slice(SLOTS, 2 * SLOTS).toReversed();
  for (const { info } of during) hurried.add(namedFile(info)!.fileHash);
  gates[0]?.resolve();
  while (cache.requests.length < 2 * SLOTS) await sleep(10);
  gates[1]?.resolve();
  const requested = cache.requests.map(({ url }) => url);
  await run;
  const urls = (some: readonly WrittenPath[]): string[] => some.map(({ info }) => `/${info.url}`).toSorted();
  assert.deepEqual(requested.slice(0, SLOTS).toSorted(), urls(before));
  assert.deepEqual(
    urls(during).filter((url) => !requested.slice(SLOTS, 2 * SLOTS).includes(url)),
    [],
  );
});
