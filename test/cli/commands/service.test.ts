/** The units that `narswarm service` writes, checked by systemd. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assertFailure, Lab } from '../../support/lab.ts';

const UNITS = ['narswarm-update.service', 'narswarm-update.timer', 'narswarm.service', 'narswarm.socket'];

describe('narswarm service', { concurrency: 4 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Units in a folder of their own. */
  async function written(...args: string[]): Promise<string> {
    const dir = lab.path('units');
    const run = await lab.run(['service', '--output', dir, ...args]);
    assert.equal(run.status, 0, run.stderr);
    return dir;
  }

  /** Returns the complaints of systemd-analyze about the units in a folder; empty if there are none. */
  async function analyze(dir: string, ...args: string[]): Promise<{ status: number | null; output: string }> {
    const files = UNITS.filter((name) => args.includes('verify') || name.endsWith('.service'));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, ...files.map((name) => `./${name}`)], {
      cwd: dir,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], LC_ALL: 'C', HOME: dir, XDG_RUNTIME_DIR: dir, SYSTEMD_COLORS: '0' },
    });
    return { status, output: `${stdout}${stderr}` };
  }

  test('systemd accepts the units of the system', async () => {
    assert.deepEqual(await analyze(await written(), '--man=no', 'verify'), { status: 0, output: '' });
  });

  test('systemd accepts the units with a key', async () => {
    const dir = await written('--key-file', '/etc/narswarm/my 100% key');
    assert.deepEqual(await analyze(dir, '--man=no', 'verify'), { status: 0, output: '' });
  });

  test('systemd accepts the units of a user', async () => {
    const dir = await written('--user', '--key-file', '/home/me/my 100% key');
    assert.deepEqual(await analyze(dir, '--user', '--man=no', 'verify'), { status: 0, output: '' });
  });

  test('systemd rates the services as well confined', async () => {
    const dir = await written();
    const { status, output } = await analyze(dir, 'security', '--offline=true', '--threshold=16', '--no-pager');
    assert.doesNotMatch(
      output,
      /unrecognized option/,
      'systemd cannot look at unit files: install version 250 or later',
    );
    assert.equal(
      status,
      0,
      `an exposure above 1.6, of which 0.2 are systemd-notify’s right to speak for the daemon:\n${output}`,
    );
  });

  test('prints them for people, each after its name', async () => {
    const run = await lab.runPlain(['service', '--print']);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([...run.stdout.matchAll(/^# (\S+)$/gm)].map(([, name]) => String(name)).toSorted(), UNITS);
    assert.match(run.stderr, /systemctl enable --now narswarm\.socket narswarm\.service narswarm-update\.timer/);
    assert.ok(run.stdout.includes(`ExecStart=${process.execPath} `), 'they start the program that wrote them');
  });

  test('the socket has the addresses of the config file that systemd can open', async () => {
    const listen = async (text: string): Promise<readonly string[]> => {
      const file = lab.path('listen.toml');
      await writeFile(file, text);
      const run = await lab.runPlain(['service', '--print', '--config', file]);
      assert.equal(run.status, 0, run.stderr);
      const isThere = run.stdout.includes('# narswarm.socket\n');
      assert.equal(run.stderr.includes('narswarm.socket'), isThere, 'the command that starts them names it');
      const found = Array.from(run.stdout.matchAll(/^ListenStream=(.*)$/gm), ([, address = '']) => address);
      assert.equal(found.length > 0, isThere);
      return found;
    };
    assert.deepEqual(await listen(''), ['127.0.0.1:16275']);
    const addresses = 'substituter-listen = ["192.0.2.1", "2001:db8::1", "::1"]';
    assert.deepEqual(await listen(`${addresses}\nsubstituter-port = 80`), ['192.0.2.1:80', '[2001:db8::1]:80']);
    for (const text of ['publish = true', 'scope = "off"', 'substituter-port = 0', 'substituter-listen = "::1"'])
      assert.deepEqual(await listen(text), [], text);
  });

  test('--print writes no file', async () => {
    const cwd = await lab.folder();
    await lab.run(['service', '--print'], { cwd });
    assert.deepEqual(await readdir(cwd), []);
  });

  test('overwrites no file, and then writes none at all', async () => {
    const dir = await lab.folder('units');
    const file = join(dir, 'narswarm-update.timer');
    await writeFile(file, 'mine');
    const refused = await lab.run(['service', '--output', dir]);
    assertFailure(refused, 2, 'USAGE', /narswarm-update\.timer already exists: give --force/);
    assert.deepEqual(await readdir(dir), ['narswarm-update.timer']);
    assert.equal(await readFile(file, 'utf8'), 'mine');
    assert.equal((await lab.run(['service', '--output', dir, '--force'])).status, 0);
    assert.match(await readFile(file, 'utf8'), /OnCalendar=/);
    assert.deepEqual((await readdir(dir)).toSorted(), UNITS);
  });

  test('asks for an output if none is named', async () => {
    assertFailure(await lab.run(['service']), 2, 'USAGE', /--print.*--output DIR/);
  });

  test('writes no units of the system for users, and none of users for the system', async () => {
    const etc = await lab.folder();
    const [system, user] = ['system', 'user'].map((kind) => join(etc, 'systemd', kind));
    assertFailure(await lab.run(['service', '--output', `${user}/`]), 2, 'USAGE', /for units of users: give --user/);
    assertFailure(
      await lab.run(['service', '--output', String(system), '--user']),
      2,
      'USAGE',
      /for units of the system: leave --user out/,
    );
    assert.equal((await lab.run(['service', '--output', String(user), '--user'])).status, 0);
    assert.deepEqual((await readdir(String(user))).toSorted(), UNITS);
  });

  test('names a folder that cannot be created', async () => {
    const file = join(await lab.folder(), 'file');
    await writeFile(file, '');
    assertFailure(await lab.run(['service', '--output', join(file, 'x')]), 2, 'USAGE', /ENOTDIR.*file\/x.*--output/);
  });

  test('the units name the config file of --config or NARSWARM_CONFIG, and no other', async () => {
    const file = lab.path('named.toml');
    await writeFile(file, '');
    const printed = async (env: Record<string, string>, ...args: string[]): Promise<string> => {
      const run = await lab.runPlain(args, { env: { NARSWARM_CONFIG: '', ...env } });
      assert.equal(run.status, 0, run.stderr);
      return run.stdout;
    };
    const names = new RegExp(`^ExecStart=.* --config ${file}( |$)`, 'm');
    for (const words of [['--config', file], [`--config=${file}`]]) {
      assert.match(await printed({}, ...words, 'service', '--print'), names);
      assert.match(await printed({}, 'service', '--print', ...words), names);
    }
    assert.match(await printed({ NARSWARM_CONFIG: file }, 'service', '--print'), names);
    assert.doesNotMatch(await printed({}, 'service', '--print', '--user'), /--config/);
  });

  describe('a program elsewhere', () => {
    /** Writes units by a program that is at `path` below a new folder of /tmp. */
    async function servedFrom(path: string, ...args: string[]) {
      const dir = await mkdtemp('/tmp/narswarm-service-');
      lab.use({ [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) });
      const root = join(dir, path);
      await mkdir(join(root, 'bin'), { recursive: true });
      const main = join(root, 'main.mjs');
      await writeFile(main, `await import(${JSON.stringify(new URL('../../../dist/main.js', import.meta.url).href)});`);
      await writeFile(join(root, 'package.json'), '{}');
      await symlink('../main.mjs', join(root, 'bin', 'narswarm'));
      const run = ['service', '--print', ...args];
      const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'bin', 'narswarm'), ...run], {
        encoding: 'utf8',
        env: lab.env,
      });
      return { root, main, status, stdout, stderr };
    }

    test('in a folder that system units cannot see is made visible to them, with a note', async () => {
      const { root, main, status, stdout, stderr } = await servedFrom('narswarm 1');
      assert.equal(status, 0, stderr);
      assert.ok(stdout.includes(`ExecStart=${process.execPath} --disable-sigusr1 "${main}" `), 'no link is named');
      for (const line of ['ProtectHome=tmpfs', `BindReadOnlyPaths="${root}"`])
        assert.ok(stdout.split('\n').includes(line), line);
      assert.match(stderr, /narswarm 1 is in a folder that services do not see/);
      const user = await servedFrom('narswarm', '--user');
      assert.doesNotMatch(user.stdout + user.stderr, /BindReadOnly|do not see/);
    });

    test('that npm may remove, or that only its owner can read, is refused with the way out', async () => {
      const npx = await servedFrom('.npm/_npx/0123/node_modules/narswarm');
      assert.equal(npx.status, 2);
      assert.match(npx.stderr, /npm’s cache.*: copy the checkout to \/opt\/narswarm/);
      const { root } = await servedFrom('narswarm');
      await chmod(join(root, 'main.mjs'), 0o600);
      const { status, stderr } = spawnSync(process.execPath, [join(root, 'main.mjs'), 'service', '--print'], {
        encoding: 'utf8',
        env: lab.env,
      });
      assert.equal(status, 2, stderr);
      assert.match(stderr, /main\.mjs can be read by its owner alone/);
    });
  });
});
