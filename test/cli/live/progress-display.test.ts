import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fetchInWords } from '../../../src/cli/live/fetch-lines.ts';
import { progressDisplay } from '../../../src/cli/live/progress-display.ts';
import { Progress } from '../../../src/fetch/report.ts';
import { fromNeighbour } from '../../support/received.ts';
import { notedOutput } from '../noted-output.ts';

test('the line of a log counts neighbours in words, one for each host', () => {
  const progress = new Progress();
  progress.take({ type: 'downloading', nars: 2, bytes: 4_000 });
  progress.take(fromNeighbour('10.0.0.1:6881', 1_000));
  assert.match(fetchInWords(progress), /^25%: 0\/2 NARs, .*, 1\.00 kB from 1 neighbour$/);
  progress.take(fromNeighbour('[::ffff:10.0.0.1]:6882', 500));
  assert.match(fetchInWords(progress), /, 1\.50 kB from 1 neighbour$/);
  progress.take(fromNeighbour('10.0.0.2:6881', 500));
  assert.match(fetchInWords(progress), / 2\.00 kB from 2 neighbours$/);
  progress.take({ type: 'path-copied', path: '/nix/store/a' });
  assert.match(fetchInWords(progress), /, 1 path imported$/);
  progress.take({ type: 'to-import', paths: 3 });
  assert.match(fetchInWords(progress), /, 1 of 4 paths imported$/);
});

test('counts the paths that Nix copies, and shows its other lines', (context) => {
  const output = notedOutput();
  using display = progressDisplay(output);
  const { tell } = display.handlers;
  const onStep = (to: string): void => tell({ type: 'importing', to });
  const onCopied = (path: string): void => tell({ type: 'path-copied', path });
  let nowMs = Math.floor(performance.now());
  context.mock.method(performance, 'now', () => nowMs);
  onStep('here');
  onCopied('/nix/store/a');
  tell({ type: 'nix-line', line: 'warning: something is odd' });
  nowMs += 10_001;
  onCopied('/nix/store/b');
  onStep('there');
  nowMs += 10_001;
  onCopied('/nix/store/c');
  const told = ['nix: warning: something is odd', 'copied 2 paths so far', 'importing into there'];
  assert.deepEqual(output.notes, ['importing into here', ...told, 'copied 3 paths so far']);
});
