/** Real Nix, behind a script that counts its calls. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { keepNixConfig, readKeptNixConfig } from '../../../src/nix/programs/kept-config.ts';
import type { NixConfig } from '../../../src/nix/programs/nix-config.ts';

const NIX = execFileSync('sh', ['-c', 'command -v nix'], { encoding: 'utf8' }).trim();
const DAY_MS = 24 * 3600 * 1000;

describe('the kept configuration of Nix', () => {
  const before = { ...process.env };
  let dir = '';
  let file = '';
  let conf = '';

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-kept-config-'));
    file = join(dir, 'kept.json');
    conf = join(dir, 'conf', 'nix.conf');
    await mkdir(join(dir, 'bin'));
    await mkdir(join(dir, 'conf'));
    await writeFile(conf, 'substituters = http://a\n!include more.conf\n');
    await writeFile(join(dir, 'bin', 'nix'), `#!/bin/sh\necho "$@" >>${dir}/calls\nexec ${NIX} "$@"\n`, {
      mode: 0o755,
    });
    process.env['PATH'] = `${join(dir, 'bin')}:${before['PATH']}`;
    process.env['NIX_CONF_DIR'] = join(dir, 'conf');
    process.env['NIX_USER_CONF_FILES'] = join(dir, 'user.conf');
  });
  afterEach(async () => {
    for (const name of ['PATH', 'NIX_CONF_DIR', 'NIX_USER_CONF_FILES', 'NIX_CONFIG']) {
      const value = before[name];
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await rm(dir, { recursive: true });
  });

  async function callsDuring(work: () => Promise<NixConfig>): Promise<{ config: NixConfig; calls: number }> {
    await rm(join(dir, 'calls'), { force: true });
    const config = await work();
    const calls = await readFile(join(dir, 'calls'), 'utf8').catch(() => '');
    return { config, calls: calls.split('\n').length - 1 };
  }
  /** Reads it as a command does, which keeps it at the end. */
  async function read(): Promise<NixConfig> {
    const config = await readKeptNixConfig(file, {});
    await keepNixConfig({});
    return config;
  }
  const assertKept = async (): Promise<void> => assert.equal((await callsDuring(read)).calls, 0);

  test('is read without Nix as long as nothing has changed', async () => {
    const asked = await callsDuring(read);
    assert.ok(asked.calls > 0);
    const kept = await callsDuring(read);
    assert.equal(kept.calls, 0);
    assert.deepEqual(kept.config, asked.config);
    assert.deepEqual(kept.config.substituters, ['http://a']);
    assert.equal((await stat(file)).mode & 0o777, 0o600, 'addresses may have passwords');
  });

  const CHANGES: Readonly<Record<string, () => Promise<unknown>>> = {
    'the file of the system': () => writeFile(conf, 'substituters = http://b\n'),
    'a file that it includes': () => writeFile(join(dir, 'conf', 'more.conf'), 'substituters = http://b\n'),
    'the file of the user': () => writeFile(join(dir, 'user.conf'), 'substituters = http://b\n'),
    'the environment': async () => (process.env['NIX_CONFIG'] = 'substituters = http://b'),
    'the program': async () => {
      const other = `#!/bin/sh\necho >>${dir}/calls\nNIX_CONFIG='substituters = http://b' exec ${NIX} "$@"\n`;
      await writeFile(join(dir, 'other'), other, { mode: 0o755 });
      await unlink(join(dir, 'bin', 'nix'));
      await symlink(join(dir, 'other'), join(dir, 'bin', 'nix'));
    },
  };
  for (const [what, change] of Object.entries(CHANGES)) {
    test(`is asked for again after a change of ${what}`, async () => {
      await read();
      await assertKept();
      await change();
      assert.deepEqual((await read()).substituters, ['http://b']);
      await assertKept();
      assert.deepEqual((await read()).substituters, ['http://b']);
    });
  }

  test('is not kept if it changes while Nix reads it', async () => {
    const changing = `#!/bin/sh\necho >>${dir}/calls\n${NIX} "$@"\necho '# read' >>${conf}\n`;
    await writeFile(join(dir, 'bin', 'nix'), changing);
    await read();
    assert.ok((await callsDuring(read)).calls > 0);
  });

  test('is asked for again if it is old, from the future, or damaged', async () => {
    await read();
    const kept = JSON.parse(await readFile(file, 'utf8')) as { keptAtMs: number };
    const aged = (ageMs: number): string => JSON.stringify({ ...kept, keptAtMs: Date.now() - ageMs });
    for (const text of [aged(8 * DAY_MS), aged(-DAY_MS), '{', 'null', '{}']) {
      await writeFile(file, text);
      const { calls, config } = await callsDuring(read);
      assert.ok(calls > 0, text);
      assert.deepEqual(config.substituters, ['http://a']);
      await assertKept();
    }
  });

  test('is asked for again if its file of certificates is gone', async () => {
    await read();
    const kept = JSON.parse(await readFile(file, 'utf8')) as { settings: string };
    await writeFile(file, JSON.stringify({ ...kept, settings: `${kept.settings}ssl-cert-file = ${dir}/gone\n` }));
    assert.ok((await callsDuring(read)).calls > 0);
  });

  test('is not kept if this Nix does not tell where its settings are, or nobody has a folder for it', async () => {
    const silent = `#!/bin/sh\necho >>${dir}/calls\ncase "$*" in *--version*) echo nix ;; *) exec ${NIX} "$@" ;; esac\n`;
    await writeFile(join(dir, 'bin', 'nix'), silent);
    await read();
    assert.ok((await callsDuring(read)).calls > 0);
    assert.ok((await callsDuring(() => readKeptNixConfig(undefined, {}))).calls > 0);
    file = join(dir, 'missing', 'kept.json');
    assert.deepEqual((await read()).substituters, ['http://a']);
  });
});
