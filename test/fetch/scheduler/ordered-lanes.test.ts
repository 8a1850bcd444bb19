/** An import wants the NARs in their order: few large ones at a time. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newJob } from '../../../src/fetch/plan/job.ts';
import { namedFile } from '../../../src/fetch/plan/named-file.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { RateLimits } from '../../../src/bytes/rate-limits.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { startHttpCache } from '../../support/http-cache.ts';
import { Lab } from '../../support/lab.ts';
import { WrittenCache, type WrittenPath } from '../../support/written-cache.ts';

const LIMIT = { timeout: 180_000 };
/** More than what keeps a line busy before its rate is known. */
const NAR_BYTES = 1_200_000;

/** Fetches four NARs. @returns the number of requests when the first NAR is there */
async function requestsAtFirst({
  isOrdered = false,
  yields = false,
}: {
  readonly isOrdered?: boolean;
  readonly yields?: boolean;
}): Promise<number> {
  await using lab = await Lab.open();
  const written = await WrittenCache.create(await lab.folder('cache'), 'ordered-1');
  const paths: WrittenPath[] = [];
  for (let index = 0; index < 4; index++)
    paths.push(await written.add(`path-${index}`, { contents: randomBytes(NAR_BYTES).toString('hex') }));
  await using cache = await startHttpCache(written.dir);
  const gate = Promise.withResolvers<void>();
  const others = Promise.withResolvers<void>();
  const [first] = paths as [WrittenPath];
  cache.faults = [
    {
      kind: 'hold',
      until: gate.promise,
      ...(isOrdered ? { match: new RegExp(first.info.fileHash ?? '') } : { times: 1 }),
    },
    ...paths.slice(1).map(() => ({ kind: 'hold', until: others.promise }) as const),
  ];
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  await using session = await PartialSession.open(store);
  await using http = new HttpClient();
  const upstream = parseUpstream(cache.url);
  let requests = 0;
  const places = new Map(paths.map(({ info }, index) => [info.storePath, index / paths.length]));
  const scheduler = new Scheduler({
    store,
    session,
    network: undefined,
    upstreams: [upstream],
    http,
    limit: yields ? new RateLimits({}, () => false).forBackground().download : undefined,
    placeOf: isOrdered ? ({ info }) => places.get(info.storePath) ?? 1 : undefined,
    tell: () => undefined,
    onFetched: ({ info }) => {
      if (isOrdered && info.storePath !== first.info.storePath) return;
      requests ||= cache.requests.length;
      others.resolve();
    },
  });
  const jobs = paths.map(({ info }) => newJob(namedFile(info)!, info, upstream));
  const run = scheduler.run(jobs, new AbortController().signal);
  while (cache.requests.length < (isOrdered || yields ? 2 : 4)) await sleep(10);
  gate.resolve();
  await run;
  return requests;
}

test('requests no more NARs than keep the line busy if they are wanted in an order', LIMIT, async () => {
  assert.equal(await requestsAtFirst({ isOrdered: true }), 2);
});

test('requests no more NARs than that if it yields to other traffic', LIMIT, async () => {
  assert.equal(await requestsAtFirst({ yields: true }), 2);
});

test('requests all slots of NARs if no order matters', LIMIT, async () => {
  assert.equal(await requestsAtFirst({ isOrdered: false }), 4);
});
