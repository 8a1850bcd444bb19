import assert from 'node:assert/strict';
import { appendFile, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import {
  DAY_MS,
  farBytes,
  HOUR_MS,
  nearBytes,
  savedBytes,
  TrafficHistory,
} from '../../../src/daemon/web/traffic-history.ts';
import { TrafficRecorder } from '../../../src/fetch/traffic-recorder.ts';
import { appendTraffic, trafficFolder, type TrafficLine } from '../../../src/store/traffic.ts';
import { emptyStore } from '../../store/store-fixture.ts';

const NOW = new Date('2026-11-30T12:30:00Z');

function line(agoMs: number, more: Partial<TrafficLine> = {}): TrafficLine {
  const at = new Date(NOW.getTime() - agoMs).toISOString();
  return { at, by: 'one', from: { neighbours: 100, caches: 10 }, nars: 1, sent: 5, ...more };
}

suite('the history of a store’s traffic', () => {
  test('bytes of all processes are summed up by the hour, the day and the month', async (t) => {
    const store = await emptyStore(t);
    for (const agoMs of [0, 2 * HOUR_MS, 3 * DAY_MS, 39 * DAY_MS, 41 * DAY_MS]) await appendTraffic(store, line(agoMs));
    await appendTraffic(store, line(0, { by: 'two', from: { lanCaches: 1, cohort: 2, clients: 3 } }));
    const history = new TrafficHistory(
      store,
      () => NOW,
      () => assert.fail(),
    );
    await history.refresh();
    const day = history.sumOf(DAY_MS);
    assert.deepEqual([nearBytes(day), farBytes(day), day.nars, day.given.sent], [201, 25, 3, 15]);
    assert.equal(nearBytes(history.sumOf(30 * DAY_MS)), 301);
    const hours = history.spans(HOUR_MS, 24);
    assert.deepEqual([nearBytes(hours[23]!.sum), nearBytes(hours[22]!.sum), nearBytes(hours[21]!.sum)], [101, 0, 100]);
    assert.equal(nearBytes(history.spans(DAY_MS, 30)[26]!.sum), 100);
  });

  test('new lines are read once, and a torn one spoils no other', async (t) => {
    const store = await emptyStore(t);
    await appendTraffic(store, line(0));
    const told: TrafficLine[] = [];
    const history = new TrafficHistory(
      store,
      () => NOW,
      (one) => told.push(one),
    );
    await history.refresh();
    await appendFile(join(trafficFolder(store), '2026-11-30.jsonl'), '\n{"at":"2026-11-30T12:2');
    await history.refresh();
    const downloads = { nars: 4, bytes: 1_000, doneNars: 1, doneBytes: 110 };
    await appendTraffic(store, line(0, { downloads }));
    await history.refresh();
    await history.refresh();
    assert.deepEqual(
      told.map(({ by }) => by),
      ['one'],
    );
    assert.equal(nearBytes(history.sumOf(DAY_MS)), 200);
    assert.deepEqual(history.running(), [{ by: 'one', downloads }]);
    assert.equal(history.rates().neighbours, 10);
    await appendTraffic(store, line(0, { downloads, tookMs: 1 }));
    await history.refresh();
    assert.deepEqual(history.running(), []);
  });

  test('old files are removed, and older ones than yesterday keep one line an hour', async (t) => {
    const store = await emptyStore(t);
    const folder = trafficFolder(store);
    for (const agoMs of [0, DAY_MS, 2 * DAY_MS, 50 * DAY_MS])
      for (const ms of [0, 1, 2]) await appendTraffic(store, line(agoMs + ms));
    const sumOf = async (): Promise<number> => {
      const history = new TrafficHistory(
        store,
        () => NOW,
        () => assert.fail(),
      );
      await history.refresh();
      return nearBytes(history.sumOf(30 * DAY_MS));
    };
    assert.equal(await sumOf(), 900);
    assert.deepEqual(await readdir(folder), ['2026-11-28.jsonl', '2026-11-29.jsonl', '2026-11-30.jsonl']);
    const text = await readFile(join(folder, '2026-11-28.jsonl'), 'utf8');
    assert.equal(text.trim().split('\n').length, 1);
    assert.equal(await sumOf(), 900);
  });

  test('foreign files and broken ones are left alone', async (t) => {
    const store = await emptyStore(t);
    const folder = trafficFolder(store);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, '2026-11-30.jsonl'), '\0\0\n[]\n{"at":1}\n');
    await mkdir(join(folder, '2026-11-29.jsonl'));
    const history = new TrafficHistory(
      store,
      () => NOW,
      () => assert.fail(),
    );
    await history.refresh();
    assert.equal(nearBytes(history.sumOf(DAY_MS)), 0);
  });

  test('a recorder writes what a fetch received, and by whom', async (t) => {
    const store = await emptyStore(t);
    const recorder = new TrafficRecorder(store);
    const bytes = { type: 'nar-bytes', origin: 'a', nar: 'n' } as const;
    recorder.take({ type: 'downloading', nars: 2, bytes: 100 });
    recorder.take({ ...bytes, source: 'peers', group: 'neighbours', isNear: true, bytes: 60 });
    recorder.take({ ...bytes, source: 'upstream', group: 'caches', isNear: true, bytes: 20 });
    recorder.take({ ...bytes, source: 'upstream', group: 'caches', isNear: false, bytes: 10 });
    recorder.take({ type: 'nar-fetched', nar: 'n', sizeBytes: 90 });
    recorder.take({ type: 'warning', warning: { kind: 'lying-peer', peer: 'p', path: 'x' } });
    await recorder[Symbol.asyncDispose]();
    const now = (): Date => new Date();
    const history = new TrafficHistory(store, now, () => assert.fail());
    await history.refresh();
    assert.deepEqual(history.sumOf(DAY_MS), {
      from: { neighbours: 60, lanCaches: 20, cohort: 0, clients: 0, caches: 10 },
      nars: 1,
      surplus: 0,
      given: { sent: 0, toNix: 0, overHttp: 0 },
    });
    const [name = ''] = await readdir(trafficFolder(store));
    const written = JSON.parse((await readFile(join(trafficFolder(store), name), 'utf8')).trim()) as TrafficLine;
    assert.deepEqual(written.fallbacks, { 'lying-peer': 1 });
    assert.deepEqual(written.downloads, { nars: 2, bytes: 100, doneNars: 1, doneBytes: 90 });
  });

  test('an uncompressed NAR of a neighbour saves the file of a cache', async (t) => {
    const store = await emptyStore(t);
    const recorder = new TrafficRecorder(store);
    const neighbour = { source: 'peers', group: 'neighbours', isNear: true, origin: 'a' } as const;
    recorder.take({ type: 'nar-bytes', ...neighbour, nar: 'n', bytes: 5_000 });
    recorder.take({ type: 'nar-fetched', nar: 'n', sizeBytes: 5_000, cacheBytes: 1_000 });
    await recorder[Symbol.asyncDispose]();
    const saved = async (now: () => Date): Promise<number[]> => {
      const history = new TrafficHistory(store, now, () => assert.fail());
      await history.refresh();
      const sum = history.sumOf(30 * DAY_MS);
      return [nearBytes(sum), savedBytes(sum)];
    };
    assert.deepEqual(await saved(() => new Date()), [5_000, 1_000]);
    const later = new Date(Date.now() + 3 * DAY_MS);
    assert.deepEqual(await saved(() => later), [5_000, 1_000]); // writes the sums of each hour
    assert.deepEqual(await saved(() => later), [5_000, 1_000]);
  });

  test('a recorder without bytes leaves nothing', async (t) => {
    const store = await emptyStore(t);
    const recorder = new TrafficRecorder(store);
    recorder.take({ type: 'downloading', nars: 2, bytes: 100 });
    await recorder[Symbol.asyncDispose]();
    await assert.rejects(readdir(trafficFolder(store)), { code: 'ENOENT' });
  });
});
