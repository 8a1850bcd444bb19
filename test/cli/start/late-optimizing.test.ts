import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const USER = fileURLToPath(new URL('optimizing-user.ts', import.meta.url));

async function optimized(...args: readonly string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--allow-natives-syntax', USER, ...args]);
  return JSON.parse(stdout);
}

test('a short run does not optimize its functions, a longer one does', async () => {
  assert.deepEqual(await optimized('late'), { before: false, after: true });
  assert.deepEqual(await optimized(), { before: true, after: true });
});
