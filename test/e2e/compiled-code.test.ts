import assert from 'node:assert/strict';
import { globSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { Lab } from '../support/lab.ts';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));

test('the compiled code of the largest file, which every command loads, is kept for the next start', async () => {
  await using lab = await Lab.open();
  const folder = await lab.folder('cache');
  const env = { NODE_COMPILE_CACHE: '', XDG_CACHE_HOME: folder };
  const { status, stderr } = await lab.runPlain(['--version'], { env });
  assert.equal(status, 0, stderr);
  const largestKept = largest('narswarm-compiled/*/*', folder);
  assert.ok(largestKept > largest('*.js', DIST) / 4, `the largest kept file has ${largestKept} bytes`);
});

function largest(pattern: string, cwd: string): number {
  return Math.max(0, ...globSync(pattern, { cwd }).map((name) => statSync(`${cwd}/${name}`).size));
}
