import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { fetchLines } from '../../../src/cli/live/fetch-lines.ts';
import { LiveLines } from '../../../src/cli/live/live-lines.ts';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import { Progress } from '../../../src/fetch/report.ts';
import { fromCache, fromCohort, fromNeighbour } from '../../support/received.ts';
import { VirtualTerminal } from '../../support/virtual-terminal.ts';

const MB = 1_000_000;

/** A fetch on a terminal: at each event the given milliseconds have passed. */
function onTerminal(
  t: TestContext,
  columns: number,
  rows = 24,
): { terminal: VirtualTerminal; take: (passedMs: number, event: FetchEvent) => void; nextFrame: () => void } {
  t.mock.timers.enable({ apis: ['setInterval'] });
  let nowMs = Math.floor(performance.now()); // whole, so that no sum is rounded
  t.mock.method(performance, 'now', () => nowMs);
  const progress = new Progress();
  const terminal = new VirtualTerminal(columns, rows);
  const live = new LiveLines({ screen: terminal, env: { TERM_PROGRAM: 'vscode' } });
  t.after(() => live.end());
  live.show((room) => fetchLines(progress, room));
  return {
    terminal,
    take: (passedMs, event) => {
      nowMs += passedMs;
      progress.take(event);
    },
    nextFrame: () => t.mock.timers.tick(100),
  };
}

/** A download of 100 MB at 10 MB a second, after six seconds. */
function download(take: (passedMs: number, event: FetchEvent) => void): void {
  take(0, { type: 'downloading', nars: 50, bytes: 100 * MB });
  take(0, { type: 'to-import', paths: 50 });
  for (let second = 0; second < 6; second++) {
    take(250, fromNeighbour('10.0.0.1:6881', 5 * MB, 'a'));
    take(250, fromNeighbour('10.0.0.2:6881', 4 * MB, 'b'));
    take(250, fromCohort('192.0.2.1:6881', 0.5 * MB, 'c'));
    take(250, fromCache(0.5 * MB, 'd'));
  }
  for (const nar of ['a', 'b', 'c', 'd']) take(0, { type: 'nar-fetched', nar, sizeBytes: MB });
  for (let path = 0; path < 2; path++) take(0, { type: 'path-copied', path: `/nix/store/${'0'.repeat(32)}-bash-5.3` });
}

test('80 columns have a line for each source, and one for the import', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 80);
  download(take);
  nextFrame();
  assert.deepEqual(await terminal.lines(), [
    'fetching   60 %  60.0/100 MB  10.3 MB/s  4/50 NARs, less than 5 s left',
    '  2 neighbours       54.0 MB  10.3 MB/s  2 NARs',
    '  1 in the cohort    3.00 MB   800 kB/s  1 NAR',
    '  1 cache            3.00 MB   750 kB/s  1 NAR',
    'importing   4 %  2 of 50 paths  bash-5.3',
  ]);
});

test('40 columns have the same facts', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 40);
  download(take);
  nextFrame();
  assert.deepEqual(await terminal.lines(), [
    ' 60 %  60.0/100 MB  10.3 MB/s',
    '  4/50 NARs, less than 5 s left',
    '  2 neighbours       54.0 MB  10.3 MB/s',
    '  1 in the cohort    3.00 MB   800 kB/s',
    '  1 cache            3.00 MB   750 kB/s',
    'importing   4 %  2 of 50 paths',
  ]);
});

test('a low terminal has one line of each', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 80, 6);
  download(take);
  nextFrame();
  assert.deepEqual(await terminal.lines(), [
    'fetching   60 %  60.0/100 MB  10.3 MB/s  4/50 NARs, less than 5 s left',
    'importing   4 %  2 of 50 paths  bash-5.3',
  ]);
});

test('nothing is said of the time before the rate is steady', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 80);
  take(0, { type: 'downloading', nars: 2, bytes: 100 * MB });
  nextFrame();
  assert.deepEqual(await terminal.lines(), ['fetching    0 %  0 B/100 MB  0/2 NARs, waiting for bytes']);
  take(1_000, fromCache(MB));
  nextFrame();
  assert.equal((await terminal.lines())[0], 'fetching    1 %  1.00/100 MB  4.00 MB/s  0/2 NARs');
});

test('after the download, only the import is shown', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 80);
  take(0, { type: 'downloading', nars: 1, bytes: MB });
  take(0, { type: 'to-import', paths: 2 });
  take(0, fromCache(MB));
  take(0, { type: 'nar-fetched', nar: 'nar', sizeBytes: MB });
  nextFrame();
  assert.deepEqual(await terminal.lines(), []);
  take(0, { type: 'importing', to: undefined });
  nextFrame();
  assert.deepEqual(await terminal.lines(), ['importing   0 %  0 of 2 paths']);
  take(0, { type: 'path-copied', path: `/nix/store/${'0'.repeat(32)}-glibc` });
  nextFrame();
  assert.deepEqual(await terminal.lines(), ['importing  50 %  1 of 2 paths  glibc']);
  take(0, { type: 'path-copied', path: `/nix/store/${'1'.repeat(32)}-bash` });
  nextFrame();
  assert.deepEqual(await terminal.lines(), []);
});

test('a terminal whose edge is dragged has no remnants', async (t) => {
  const { terminal, take, nextFrame } = onTerminal(t, 80);
  const history = Array.from({ length: 40 }, (_, at) => `earlier ${at}`.padEnd(30, '-'));
  terminal.write(history.map((line) => `${line}\n`).join(''));
  download(take);
  nextFrame();
  const narrower = Array.from({ length: 49 }, (_, at) => 79 - at);
  for (const columns of [...narrower, ...narrower.toReversed()]) {
    await terminal.resize(columns, 24);
    terminal.signalSize();
    const lines = await terminal.lines();
    assert.deepEqual(lines.slice(0, history.length), history, `${columns} columns`);
    assert.equal(lines.length, history.length + (columns > 64 ? 5 : 6), `${columns} columns:\n${lines.join('\n')}`);
  }
});
