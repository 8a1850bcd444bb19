/** Runs the command for a host's shell, with a program that only prints its arguments. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { remoteCommand } from '../../src/push/remote-script.ts';

describe('the command for a host without narswarm', () => {
  let dir = '';
  let archive: Buffer;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'narswarm-remote-'));
    for (const folder of ['bin', 'packed/dist']) mkdirSync(join(dir, folder), { recursive: true });
    symlinkSync(process.execPath, join(dir, 'bin/node'));
    writeFileSync(join(dir, 'packed/dist/main.js'), 'console.log(process.argv.slice(2).join(" "))');
    archive = spawnSync('tar', ['-C', join(dir, 'packed'), '-cz', 'dist']).stdout;
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** Runs the command with this on its stdin. */
  const run = (input: Buffer): { status: number | null; stdout: string; kept: string[] } => {
    const env = { PATH: `${join(dir, 'bin')}:/usr/bin:/bin`, HOME: dir, XDG_CACHE_HOME: join(dir, 'cache') };
    const command = remoteCommand({ archive, id: 'id' }, ['--to', 'a b']);
    const { status, stdout } = spawnSync('sh', ['-c', command], { input, env, encoding: 'utf8' });
    return { status, stdout, kept: readdirSync(join(dir, 'cache/narswarm-program')) };
  };

  test('of a program that arrives in part, nothing is left', () => {
    const { status, kept } = run(archive.subarray(0, archive.length - 20));
    assert.notEqual(status, 0);
    assert.deepEqual(kept, []);
  });

  test('the program is kept for the next push', () => {
    assert.deepEqual(run(archive), { status: 0, stdout: '{"type":"send-program"}\nreceive --to a b\n', kept: ['id'] });
    assert.deepEqual(run(Buffer.alloc(0)), { status: 0, stdout: 'receive --to a b\n', kept: ['id'] });
  });
});
