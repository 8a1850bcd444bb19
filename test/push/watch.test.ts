/** A build that is watched, with a real Nix store that has nothing of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { watchBuilds, type Waiting } from '../../src/push/watch.ts';
import { useNixFolder } from '../support/nix-folder.ts';

useNixFolder(() => undefined);

test('a person is told at the beginning, and again while nothing is built', async () => {
  const root = parseStorePath(`/nix/store/${'0'.repeat(32)}-root`);
  const stop = new AbortController();
  const told: Waiting[] = [];
  const onWaiting = (waiting: Waiting): void => {
    told.push(waiting);
    if (told.length === 3) stop.abort();
  };
  const build = { roots: [root], buildInputs: [], buildInputsOf: async () => [] };
  const watched = watchBuilds([build], { signal: stop.signal, onWaiting, silenceMs: 1 });
  await assert.rejects(watched.next(), { name: 'AbortError' });
  assert.deepEqual(
    told.map(({ paths, silentMs }) => [paths, silentMs > 0]),
    [
      [1, false],
      [1, true],
      [1, true],
    ],
  );
});
