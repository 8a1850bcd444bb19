import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FetchEvent } from '../../src/fetch/events.ts';
import { Progress } from '../../src/fetch/report.ts';
import { sharesInWords } from '../../src/cli/words/fetch-report.ts';
import { fromCache, fromCohort, fromNeighbour } from '../support/received.ts';

function after(...events: readonly FetchEvent[]): Progress {
  const progress = new Progress();
  for (const event of events) progress.take(event);
  return progress;
}

/** Returns a progress, and a function that gives it an event at a time of its clock. */
function timed(t: TestContext): { progress: Progress; at: (ms: number, event: FetchEvent) => void } {
  let nowMs = 0;
  t.mock.method(performance, 'now', () => nowMs);
  const progress = new Progress();
  return {
    progress,
    at: (ms, event) => {
      nowMs = ms;
      progress.take(event);
    },
  };
}

function fetched(sizeBytes: number, nar = 'nar'): FetchEvent {
  return { type: 'nar-fetched', nar, sizeBytes };
}

test('bytes from the local network are saved', () => {
  const progress = after(fromNeighbour('10.0.0.1:1', 900), fromCache(100), fetched(1_000));
  assert.equal(progress.savedBytes, 900);
  assert.equal(sharesInWords(progress), ', 90 % from 1 neighbour, 10 % from 1 cache, 900 B of internet saved');
});

test('a group that has sent little is not named', () => {
  const progress = after(fromNeighbour('10.0.0.1:1', 985), fromCache(15), fetched(1_000));
  assert.equal(sharesInWords(progress), ', 98 % from 1 neighbour, 985 B of internet saved');
});

test('bytes from members beyond the local network are not saved', () => {
  const progress = after(fromCohort('192.0.2.1:1', 1_000), fetched(1_000));
  assert.equal(progress.savedBytes, 0);
  assert.equal(sharesInWords(progress), ', all from 1 in the cohort');
});

test('wrong bytes of a neighbour that the cache replaced are not saved', () => {
  assert.equal(after(fromNeighbour('10.0.0.1:1', 1_000), fromCache(1_000), fetched(1_000)).savedBytes, 0);
});

test('bytes that came twice count once', () => {
  const twice = after(fromNeighbour('10.0.0.1:1', 1_000), fromNeighbour('10.0.0.2:1', 600), fetched(1_000));
  assert.equal(twice.savedBytes, 1_000);
});

test('an uncompressed NAR of a neighbour saves what a cache would have sent', () => {
  const uncompressed: FetchEvent = { type: 'nar-fetched', nar: 'nar', sizeBytes: 5_000, cacheBytes: 1_000 };
  assert.equal(after(fromNeighbour('10.0.0.1:1', 5_000), uncompressed).savedBytes, 1_000);
  assert.equal(after(fromNeighbour('10.0.0.1:1', 5_000), fromCache(300), uncompressed, fetched(300)).savedBytes, 1_000);
});

test('bytes of an earlier run are not saved by this one', () => {
  const progress = after({ type: 'nar-kept', bytes: 400 }, fromNeighbour('10.0.0.1:1', 600), fetched(1_000));
  assert.equal(progress.savedBytes, 600);
});

test('bytes of NARs that are not complete are not saved yet', () => {
  assert.equal(after(fromNeighbour('10.0.0.1:1', 600)).savedBytes, 0);
});

test('one host is one neighbour, whatever its port and the spelling of its address', () => {
  const progress = after(
    fromNeighbour('10.0.0.1:1', 1),
    fromNeighbour('10.0.0.1:2', 1),
    fromNeighbour('[::ffff:10.0.0.1]:2', 1),
    fromNeighbour('[fd00::1]:1', 1),
  );
  assert.deepEqual([...progress.groups.get('neighbours')!.senders], ['10.0.0.1', 'fd00::1']);
  assert.deepEqual([...progress.bySource.keys()], ['10.0.0.1:1', '10.0.0.1:2', '[fd00::1]:1']);
});

test('a NAR counts for the group that has sent most of it', () => {
  const progress = after(fromNeighbour('10.0.0.1:1', 600), fromCache(400), fetched(1_000));
  assert.deepEqual([progress.groups.get('neighbours')?.nars, progress.groups.get('caches')?.nars], [1, 0]);
});

test('the time of the walk and of the import is not that of the download', (t: TestContext) => {
  const { progress, at } = timed(t);
  at(0, { type: 'walking' });
  at(1_000, { type: 'downloading', nars: 1, bytes: 1_000 });
  at(3_000, fromCache(1_000));
  at(4_000, { type: 'committing' });
  at(9_000, { type: 'path-copied', path: '/nix/store/a' });
  assert.equal(progress.downloadMs, 2_000);
  at(10_000, { type: 'downloading', nars: 1, bytes: 1_000 });
  at(11_000, fromCache(1_000));
  assert.equal(progress.downloadMs, 3_000);
});

test('a download that begins beside the walk is one, from its first NAR to its last byte', (t: TestContext) => {
  const { progress, at } = timed(t);
  at(0, { type: 'walking' });
  at(1_000, { type: 'downloading', nars: 1, bytes: 400 });
  at(2_000, fromCache(400));
  at(3_000, { type: 'downloading', nars: 1, bytes: 600 });
  at(4_000, fromCache(600));
  assert.deepEqual([progress.downloadMs, progress.totalNars, progress.totalBytes], [3_000, 2, 1_000]);
});
