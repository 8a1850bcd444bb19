import { spawnSync } from 'node:child_process';
import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Changes a byte in the middle of each file and leaves size and times as they were, to the nanosecond. */
export async function falsify(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    const { mtimeNs } = await stat(path, { bigint: true });
    const bytes = await readFile(path);
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const at = `@${mtimeNs / 1_000_000_000n}.${String(mtimeNs % 1_000_000_000n).padStart(9, '0')}`;
    assert.equal(spawnSync('touch', ['-d', at, path]).status, 0); // utimes(2) of Node rounds to its doubles
    assert.equal((await stat(path, { bigint: true })).mtimeNs, mtimeNs);
  }
}
