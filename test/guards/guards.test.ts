import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
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

/** Tells whether a row names a file of the project, or a function in it. */
function isNamed(file: string, where: readonly string[]): boolean {
  const text = readFileSync(ROOT + file, 'utf8');
  return where.some((place) =>
    /\.(?:ts|nix|sh)$/.test(place)
      ? `/${file}`.endsWith(`/${place}`)
      : place.split('.').every((word) => new RegExp(`\\b${word}\\b`).test(text)),
  );
}

test('every patch changes only files that its row names', () => {
  for (const { where, name = '' } of readGuards()) {
    const files = readFileSync(patchFile(name), 'utf8').matchAll(/^\+\+\+ b\/(.*)$/gm);
    const unnamed = Array.from(files, ([, file = '']) => file).filter((file) => !isNamed(file, where));
    assert.deepEqual(unnamed, [], name);
  }
});

test('every patch belongs to an invariant', () => {
  const names = readGuards().map(({ name }) => `${name}.patch`);
  const patches = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.patch'));
  assert.deepEqual(patches.toSorted(), names.toSorted());
});
