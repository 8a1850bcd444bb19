import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSmall } from '../../src/disk/read-small.ts';

test('reads a small text unchanged, reports a missing file as the system does, and does not wait for a pipe', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-read-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  for (const text of ['', 'StorePath: ü\n', 'x'.repeat(300_000)]) {
    await writeFile(join(dir, 'text'), text);
    assert.equal(await readSmall(join(dir, 'text')), text);
  }
  await assert.rejects(readSmall(join(dir, 'none')), { code: 'ENOENT' });
  await assert.rejects(readSmall(dir), { code: 'EISDIR' });
  execFileSync('mkfifo', [join(dir, 'pipe')]);
  assert.equal(await readSmall(join(dir, 'pipe')), '');
});
