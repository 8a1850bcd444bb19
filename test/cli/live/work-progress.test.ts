import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LiveLines } from '../../../src/cli/live/live-lines.ts';
import { WorkProgress } from '../../../src/cli/live/work-progress.ts';
import { VirtualTerminal } from '../../support/virtual-terminal.ts';
import { notedOutput } from '../noted-output.ts';

const MB = 1_000_000;

test('hashing has a total, and its lines are gone at the end', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const terminal = new VirtualTerminal(80, 24);
  using live = new LiveLines({ screen: terminal, env: {} });
  using work = new WorkProgress(notedOutput(live));
  work.tellHashing({ type: 'hashing', nars: 2, bytes: 10 * MB });
  t.mock.timers.tick(100);
  assert.deepEqual(await terminal.lines(), ['hashing     0 %  0 B/10.0 MB  0/2 NARs']);
  work.tellHashing({ type: 'nar-hashed', bytes: 6 * MB });
  t.mock.timers.tick(100);
  assert.match((await terminal.lines()).join('\n'), /^hashing {4}60 % {2}6\.00\/10\.0 MB {2}\S+ MB\/s {2}1\/2 NARs$/);
  work.tellHashing({ type: 'nar-hashed', bytes: 4 * MB });
  assert.deepEqual(await terminal.lines(), []);
});

test('without a terminal, there is a line from time to time', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const output = notedOutput();
  using work = new WorkProgress(output);
  work.tellHashing({ type: 'hashing', nars: 2, bytes: 10 * MB });
  t.mock.timers.tick(10_000);
  assert.deepEqual(output.notes, ['hashing: 0%: 0/2 NARs, 0 B of 10.0 MB, 0 B/s']);
  work.tellHashing({ type: 'nar-hashed', bytes: 6 * MB });
  work.tellHashing({ type: 'nar-hashed', bytes: 4 * MB });
  t.mock.timers.tick(20_000);
  assert.equal(output.notes.length, 1);
});

test('nothing to do shows nothing', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const terminal = new VirtualTerminal(80, 24);
  using live = new LiveLines({ screen: terminal, env: {} });
  using work = new WorkProgress(notedOutput(live));
  work.tellHashing({ type: 'hashing', nars: 0, bytes: 0 });
  t.mock.timers.tick(1_000);
  assert.equal(terminal.writes, 0);
});
