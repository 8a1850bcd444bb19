/** Units of `narswarm service`, started as by systemd: their command line in their environment. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fixtureKey, Lab } from '../support/lab.ts';

/** A unit's command line and environment. */
interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Record<string, string>;
}

describe('units, started', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Writes units for a config file. @param toml its contents */
  async function units(toml: string): Promise<string> {
    const dir = lab.path('units');
    const config = join(await lab.folder('etc 100%'), 'config.toml');
    await writeFile(config, toml);
    const { status, stderr } = await lab.run(['--config', config, 'service', '--output', dir]);
    assert.equal(status, 0, stderr);
    return dir;
  }

  /** Reads a unit as systemd does: specifiers, quotes, `$$`. */
  async function commandOf(dir: string, unit: string): Promise<Command> {
    const text = await readFile(join(dir, unit), 'utf8');
    const folders = { C: await lab.folder('cache'), S: await lab.folder('state'), d: '/nowhere' };
    const words = (line: string): string[] =>
      Array.from(line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g), ([, quoted, plain = '']) =>
        (quoted?.replaceAll(/\\(.)/g, '$1') ?? plain).replaceAll(/%([%CSd])/g, (_, name: string) =>
          name === '%' ? '%' : folders[name as keyof typeof folders],
        ),
      );
    const values = (key: string): string[] =>
      Array.from(text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm')), ([, value = '']) => value);
    const [file = '', ...args] = words(values('ExecStart')[0] ?? '').map((word) => word.replaceAll('$$', () => '$'));
    const env = Object.fromEntries(
      values('Environment')
        .flatMap(words)
        .map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]),
    );
    await mkdir(join(folders.C, 'narswarm'));
    return { file, args, env: { ...env, STATE_DIRECTORY: folders.S, CACHE_DIRECTORY: join(folders.C, 'narswarm') } };
  }

  const ALONE = 'listen = "127.0.0.1"\ndht = false\nlan = false\n';

  test('the daemon seeds until it is stopped; the update runs the subscriptions', async () => {
    const dir = await units(`${ALONE}trusted-public-key = ${JSON.stringify(await fixtureKey())}\nfrom = []\n`);
    const { file, args, env } = await commandOf(dir, 'narswarm.service');
    assert.match(file, /^\//);
    const daemon = spawn(file, [...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    lab.use({ [Symbol.asyncDispose]: async () => void daemon.kill('SIGKILL') });
    let said = '';
    daemon.stderr.on('data', (text) => (said += String(text)));
    const ended = once(daemon, 'close');
    for await (const text of daemon.stdout) {
      said += String(text);
      if (said.includes('ready')) break;
    }
    assert.match(said, /seeding 0 NARs/);
    daemon.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null], said);

    const update = await commandOf(dir, 'narswarm-update.service');
    const done = spawnSync(update.file, [...update.args], { env: update.env, encoding: 'utf8' });
    assert.equal(done.status, 0, done.stderr);
  });

  test('systemd restarts the daemon after a port in use, but not after a malformed file', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    lab.use({ [Symbol.asyncDispose]: async () => void server.close() });
    await once(server, 'listening');
    const key = `trusted-public-key = ${JSON.stringify(await fixtureKey())}\n`;
    const { port } = server.address() as AddressInfo;
    for (const [toml, status] of [
      [`${ALONE}${key}port = ${port}\n`, 9],
      [`${key}dht = false\nlan = false\nlisten = "192.0.2.77"\n`, 9],
      ['port = "many"\n', 2],
    ] as const) {
      const { file, args, env } = await commandOf(await units(''), 'narswarm.service');
      await writeFile(args[args.indexOf('--config') + 1] ?? '', toml);
      const ended = spawnSync(file, [...args], { env, encoding: 'utf8' });
      assert.equal(ended.status, status, ended.stderr);
    }
  });

  test('the units find nix, and git and ssh if they are installed', async () => {
    const { env } = await commandOf(await units(''), 'narswarm-update.service');
    for (const tool of ['nix', 'git', 'ssh']) {
      const here = spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).stdout.trim();
      const there = spawnSync('/bin/sh', ['-c', `command -v ${tool}`], { encoding: 'utf8', env }).stdout.trim();
      assert.equal(there !== '', here !== '', `${tool} at ${here}`);
    }
  });
});
