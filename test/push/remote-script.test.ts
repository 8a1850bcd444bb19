/** Runs the command for a host's shell, with a program that only prints its arguments. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { remoteCommand } from '../../src/push/remote-script.ts';
import { VERSION } from '../../src/version.ts';

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
  const run = (input: Buffer, id = 'id'): { status: number | null; stdout: string; kept: string[] } => {
    const env = { PATH: `${join(dir, 'bin')}:/usr/bin:/bin`, HOME: dir, XDG_CACHE_HOME: join(dir, 'cache') };
    const command = remoteCommand({ id }, ['--to', 'a b']);
    const { status, stdout } = spawnSync('sh', ['-c', command], { input, env, encoding: 'utf8' });
    return {
      status,
      stdout: stdout.replace('\n{"type":"shell"}\n', ''),
      kept: readdirSync(join(dir, 'cache/narswarm-program')).toSorted(),
    };
  };

  const sent = (bytes = archive): Buffer => Buffer.concat([Buffer.from(`${archive.length}\n`), bytes]);
  const told = `receive --for ${VERSION} --to a b\n`;

  test('begins with a line of its own, whatever the shell of the host has printed', () => {
    const command = remoteCommand({ id: 'id' }, []);
    const { stdout } = spawnSync('sh', ['-c', `printf '\\033]0;web1\\007'; ${command}`], { env: { PATH: '/bin' } });
    assert.match(stdout.toString(), /^\{"type":"shell"\}$/m);
  });

  test('of a program that arrives in part, nothing is left', () => {
    const { status, kept } = run(sent(archive.subarray(0, archive.length - 20)));
    assert.notEqual(status, 0);
    assert.deepEqual(kept, []);
  });

  test('the program is kept for the next push', () => {
    assert.deepEqual(run(sent()), { status: 0, stdout: `{"type":"send-program"}\n${told}`, kept: ['id'] });
    assert.deepEqual(run(Buffer.alloc(0)), { status: 0, stdout: told, kept: ['id'] });
  });

  test('three programs are kept: those used last', () => {
    const all = join(dir, 'cache/narswarm-program');
    for (const [at, id] of ['id', 'b', 'c'].entries()) {
      run(sent(), id);
      utimesSync(join(all, id), at + 1, at + 1);
    }
    assert.deepEqual(run(Buffer.alloc(0), 'id').kept, ['b', 'c', 'id']);
    assert.deepEqual(run(sent(), 'd').kept, ['c', 'd', 'id']);
  });

  test('a removal that is interrupted leaves no part of a copy under its name', (t) => {
    const rm = join(dir, 'bin/rm');
    t.after(() => rmSync(rm));
    writeFileSync(rm, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const { kept } = run(sent(), 'e');
    assert.deepEqual(
      kept.filter((name) => !/^(?:old|new)\./.test(name)),
      ['d', 'e', 'id'],
    );
  });

  test('a narswarm that cannot be run leaves it to a copy', (t) => {
    const own = join(dir, 'bin/narswarm');
    t.after(() => rmSync(own));
    writeFileSync(own, '#!/bin/sh\nexec /nonexistent/node\n', { mode: 0o755 });
    assert.equal(run(sent()).stdout.replace('{"type":"send-program"}\n', ''), told);
  });

  test('a narswarm of another version, or without this command, leaves it to a copy', (t) => {
    const own = join(dir, 'bin/narswarm');
    t.after(() => rmSync(own));
    writeFileSync(own, '#!/bin/sh\necho "$@"; exit 2\n', { mode: 0o755 });
    assert.equal(run(sent()).stdout.replace('{"type":"send-program"}\n', ''), told + told);
    writeFileSync(own, '#!/bin/sh\necho "$@"; exit 5\n', { mode: 0o755 });
    assert.deepEqual([run(sent()).status, run(sent()).stdout], [5, told]);
  });
});
