import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const USER = fileURLToPath(new URL('heap-user.ts', import.meta.url));

async function medianBytes(...flags: readonly string[]): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [USER, ...flags]);
  return (JSON.parse(stdout) as { medianBytes: number }).medianBytes;
}

test('the heap of a daemon stays smaller than V8 would let it grow', async () => {
  const [small, usual] = [await medianBytes('small'), await medianBytes()];
  assert.ok(small < 0.7 * usual, `${small} bytes, and ${usual} without the limit`);
});
