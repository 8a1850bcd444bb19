import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeProgress } from '../../src/cli/progress-display.ts';
import { Progress } from '../../src/fetch/report.ts';

test('the progress line counts peers as people do', () => {
  const progress = new Progress(() => undefined);
  progress.totalNars = 2;
  progress.totalBytes = 4_000;
  progress.onBytes('peers', '127.0.0.1:6881', 1_000);
  assert.match(describeProgress(progress), /^25%, .*: 0\/2 NARs, .*, 1\.00 kB from 1 peer, 0 B from caches$/);
  progress.onBytes('peers', '127.0.0.1:6882', 500);
  assert.match(describeProgress(progress), / 1\.50 kB from 2 peers, /);
});
