import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { patchFile, readGuards, ROOT } from './table.ts';

test('every invariant in ARCHITECTURE.md has tests and a patch that removes its guard', () => {
  for (const { invariant, tests, name } of readGuards()) {
    assert.ok(name !== undefined && existsSync(patchFile(name)), `${invariant}: no patch`);
    assert.ok(tests.length > 0, `${invariant}: no tests`);
    for (const path of tests) assert.ok(path.endsWith('.test.ts') && existsSync(ROOT + path), `${invariant}: ${path}`);
    const applied = spawnSync('git', ['apply', '--check', patchFile(name)], { cwd: ROOT, encoding: 'utf8' });
    assert.equal(applied.status, 0, `${invariant}: ${applied.stderr}`);
  }
});

test('every patch belongs to an invariant', () => {
  const names = readGuards().map(({ name }) => `${name}.patch`);
  const patches = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.patch'));
  assert.deepEqual(patches.toSorted(), names.toSorted());
});
