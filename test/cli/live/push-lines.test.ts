import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PushProgress } from '../../../src/cli/live/push-lines.ts';
import { NarswarmError } from '../../../src/errors.ts';

const ROOM = { columns: 80, rows: 24 };
const textsOf = (progress: PushProgress): string[] | undefined =>
  progress
    .now()
    ?.lines(ROOM)
    .map((line) => line.map(({ text }) => text).join(''));

test('each host that is not done has a line', () => {
  const progress = new PushProgress(['root@a', 'root@long', 'root@c']);
  const fetched = { type: 'progress', bytes: 12e6, totalBytes: 40e6, nars: 3, totalNars: 9, importing: false } as const;
  progress.take({ type: 'progress', host: 'root@long', progress: fetched });
  const failure = new NarswarmError('HOST_FAILED', 'it is off');
  progress.take({ type: 'failed', host: 'root@c', failure });
  assert.deepEqual(textsOf(progress), ['root@a     waits', 'root@long   30 %  12.0 MB of 40.0 MB']);
  assert.equal(progress.now()?.text, 'root@a waits, root@long 30 %');
  progress.take({ type: 'progress', host: 'root@a', progress: { ...fetched, bytes: 40e6, importing: true } });
  assert.deepEqual(textsOf(progress)?.[0], 'root@a     100 %  40.0 MB of 40.0 MB, importing');
  for (const host of ['root@a', 'root@long'])
    progress.take({ type: 'done', host, done: { paths: 9, bytes: 1, kept: 0, ofPush: 1, durationMs: 1 } });
  assert.equal(progress.now(), undefined);
});

test('a host that is known by another name has no line', () => {
  const progress = new PushProgress(['root@a', 'root@b']);
  progress.take({ type: 'same', host: 'root@b', sameAs: 'root@a' });
  assert.deepEqual(textsOf(progress), ['root@a  waits']);
});
