import assert from 'node:assert/strict';
import { mkdir, readdir, rename, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { NixWaits, tellNixWaits } from '../../src/store/nix-waits.ts';
import { inState } from '../../src/store/state-folder.ts';
import { emptyStore } from './store-fixture.ts';

const LIMIT = { timeout: 60_000 };

test('other processes know while Nix waits, and no longer', LIMIT, async (t) => {
  const store = await emptyStore(t);
  let isWaiting = false;
  await using _daemon = await tellNixWaits(store, () => isWaiting);
  await using update = await NixWaits.watch(store);
  await sleep(1_000);
  assert.equal(update.isWaiting, false);
  await assert.rejects(stat(inState(store, 'nix-waits')), /ENOENT/, 'nothing is written while Nix asks for nothing');
  isWaiting = true;
  while (!update.isWaiting) await sleep(20);
  await sleep(3_000);
  assert.ok(update.isWaiting, 'it is told again and again');
  isWaiting = false;
  while (update.isWaiting) await sleep(20);
  assert.deepEqual(await readdir(inState(store, 'nix-waits')), []);
});

test('what a killed daemon or another machine has told does not count', LIMIT, async (t) => {
  const store = await emptyStore(t);
  await using _daemon = await tellNixWaits(store, () => true);
  const dir = inState(store, 'nix-waits');
  let names: string[] = [];
  while (names.length === 0) {
    await sleep(20);
    names = await readdir(dir).catch(() => []);
  }
  const file = join(dir, names[0]!);
  const killed = await emptyStore(t);
  const left = join(inState(killed, 'nix-waits'), names[0]!);
  await mkdir(join(left, '..'), { recursive: true });
  await rename(file, left);
  for (const ageMs of [3_600_000, -3_600_000]) {
    const at = new Date(Date.now() - ageMs);
    await utimes(left, at, at);
    await using update = await NixWaits.watch(killed);
    await sleep(700);
    assert.equal(update.isWaiting, false);
  }
  await rename(left, `${left}0`);
  const now = new Date();
  await utimes(`${left}0`, now, now);
  await using update = await NixWaits.watch(killed);
  await sleep(700);
  assert.equal(update.isWaiting, false);
});
