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
  assert.match(describeProgress(progress), / 1\.50 kB from 2 peers, 0 B from caches$/);
  progress.take({ type: 'path-copied', path: '/nix/store/a' });
  assert.match(describeProgress(progress), / 0 B from caches, 1 path imported$/);
});

test('counts the paths that Nix copies, and shows its other lines', (context) => {
  const said: string[] = [];
  const note = (text: string): void => void said.push(text);
  using display = progressDisplay({ json: false, result: () => undefined, note, warn: note });
  const { tell } = display.handlers;
  const onStep = (to: string): void => tell({ type: 'importing', to });
  const onCopied = (path: string): void => tell({ type: 'path-copied', path });
  let nowMs = performance.now();
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
  assert.deepEqual(said, ['importing into here', ...told, 'copied 3 paths so far']);
});
