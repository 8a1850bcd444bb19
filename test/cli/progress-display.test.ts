import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeProgress, progressDisplay } from '../../src/cli/progress-display.ts';
import { Progress } from '../../src/fetch/report.ts';

test('the progress line counts peers in words', () => {
  const progress = new Progress();
  const send = (origin: string, bytes: number): void =>
    progress.take({ type: 'nar-bytes', source: 'peers', origin, bytes });
  progress.take({ type: 'downloading', nars: 2, bytes: 4_000 });
  send('127.0.0.1:6881', 1_000);
  assert.match(describeProgress(progress), /^25%, .*: 0\/2 NARs, .*, 1\.00 kB from 1 peer, 0 B from caches$/);
  send('127.0.0.1:6882', 500);
  assert.match(describeProgress(progress), / 1\.50 kB from 2 peers, /);
});

test('counts the paths that Nix copies, and shows its other lines', (context) => {
  const said: string[] = [];
  const note = (text: string): void => void said.push(text);
  using display = progressDisplay({ json: false, result: () => undefined, note, warn: note });
  const { tell } = display.handlers;
  const onStep = (to: string): void => tell({ type: 'importing', to });
  const onNixLine = (line: string): void => tell({ type: 'nix-line', line });
  let nowMs = performance.now();
  context.mock.method(performance, 'now', () => nowMs);
  onStep('here');
  onNixLine("copying path '/nix/store/a' from 'file:///store'...");
  onNixLine('warning: something is odd');
  nowMs += 10_001;
  onNixLine("copying path '/nix/store/b' from 'file:///store'...");
  onStep('there');
  nowMs += 10_001;
  onNixLine("copying path '/nix/store/c' from 'file:///store'...");
  const told = ['nix: warning: something is odd', 'nix copy: 2 paths so far', 'nix copy --to there'];
  assert.deepEqual(said, ['nix copy --to here', ...told, 'nix copy: 1 path so far']);
});
