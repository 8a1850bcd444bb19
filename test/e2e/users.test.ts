/** Users as containers have them: no entry in /etc/passwd, and a home folder that is `/` or nowhere. */
import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ALONE, assertFailure, FIXTURE_ROOT, fixtureKey, Lab, type Run } from '../support/lab.ts';
import { groupName } from '../../src/nix/programs/system-users.ts';
import { startHttpCache } from '../support/http-cache.ts';

const UID = 47_120;

describe('a user without an entry in /etc/passwd', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Runs the program as that user. @param env besides PATH and a folder for temporary files */
  function run(args: readonly string[], env: Readonly<Record<string, string>>, tmp: string): Promise<Run> {
    const { PATH = '' } = lab.env;
    const variables = Object.entries({ PATH, TMPDIR: tmp, ...env }).map(([name, value]) => `${name}=${value}`);
    const asUser = ['unshare', '--user', `--map-user=${UID}`, `--map-group=${UID}`];
    return lab.runPlain(args, { wrapper: [...asUser, 'env', '-i', ...variables] });
  }

  test('runs, with folders of its own, whatever HOME is', async () => {
    const home = await lab.folder('home');
    for (const env of [{ HOME: home }, { HOME: '/' }, { HOME: '' }, {}]) {
      const tmp = await lab.folder('tmp');
      for (const args of [['--version'], ['--help'], ['key', '--help'], ['config'], ['status'], ['pin', '--help']]) {
        const { status, stderr } = await run(args, env, tmp);
        assert.equal(status, 0, `${args.join(' ')} with ${JSON.stringify(env)}: ${stderr}`);
      }
      const place = env.HOME === home ? home : join(tmp, `narswarm-${UID}`);
      const made = await run(['key'], env, tmp);
      assert.equal(made.status, 0, made.stderr);
      assert.ok((await readdir(join(place, '.config', 'narswarm'))).includes('publisher.key'));
    }
  });

  test('fetches and imports with the defaults alone', async () => {
    await using cache = await startHttpCache(await lab.fixtureCache());
    const tmp = await lab.folder('tmp');
    const target = await lab.folder('target');
    const from = ['--from', cache.url, '--trusted-public-key', await fixtureKey(), ...ALONE, '--to', target];
    const fetched = await run(['fetch', FIXTURE_ROOT, ...from], { HOME: '/' }, tmp);
    assert.equal(fetched.status, 0, fetched.stderr);
    const store = join(tmp, `narswarm-${UID}`, '.cache', 'narswarm');
    assert.ok((await readdir(store)).includes('nix-cache-info'));
    assert.equal((await stat(join(tmp, `narswarm-${UID}`))).mode & 0o777, 0o700);
  });

  test('does not use a folder that others can write to as a home', async () => {
    const tmp = await lab.folder('tmp');
    const place = join(tmp, `narswarm-${UID}`);
    await mkdir(place);
    await chmod(place, 0o777);
    assertFailure(await run(['status', '--json'], {}, tmp), 7, 'STORE_UNWRITABLE', /narswarm-47120.*set HOME/);
    assert.deepEqual(await readdir(place), [], 'nothing was compiled into it');
    assert.equal((await run(['--version'], {}, tmp)).status, 0);
  });
});

/** A group that root is not in, by its number and name: the first one of this machine. */
const GROUP = { gid: 1, name: groupName(1) ?? assert.fail('no group has the number 1') };

describe('a user who may not talk to the Nix daemon', () => {
  let lab: Lab;
  let socket: string;
  /** The state of Nix. Who may not write it has to ask the daemon. */
  let state: string;
  let cache: string;
  before(async () => {
    lab = await Lab.open();
    socket = join(await lab.folder('daemon'), 'socket');
    state = await lab.folder('state');
    cache = await lab.fixtureCache();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Runs the program as a user whom the daemon's folder lets in only as a member of a group. */
  async function run(group: number, args: readonly string[]): Promise<Run> {
    await chmod(dirname(socket), 0o070);
    await chmod(state, 0o555);
    const wrapper = ['unshare', '--user', `--map-user=${UID}`, `--map-group=${group}`];
    return lab.runPlain(args, { wrapper, env: { NIX_STATE_DIR: state, NIX_DAEMON_SOCKET_PATH: socket } });
  }

  async function fetch(group: number): Promise<Run> {
    const from = ['--from', cache, '--trusted-public-key', await fixtureKey(), ...ALONE, '--json'];
    return run(group, ['fetch', FIXTURE_ROOT, ...from]);
  }

  test('is told which group to join, in one sentence', async () => {
    const says = `this user may not talk to the nix-daemon at ${socket}: run \`adduser ${UID} ${GROUP.name}\` as root, then log in again`;
    const fetched = await fetch(GROUP.gid);
    assertFailure(fetched, 8, 'NIX_FAILED', /may not talk/);
    assert.equal(fetched.stderr, `error: ${says}\n`);
    const added = await run(GROUP.gid, ['add', FIXTURE_ROOT, '--store', lab.path('store')]);
    assert.deepEqual([added.status, added.stderr], [8, `error: ${says}\n`]);
    const doctor = await run(GROUP.gid, ['doctor', '--scope', 'off']);
    assert.ok(doctor.stdout.split('\n').includes(`!!  nix-conf    ${says}`), doctor.stdout);
  });

  test('is not told to join root’s group', async () => {
    const fetched = await fetch(0);
    assertFailure(fetched, 8, 'NIX_FAILED', /as root, let it enter .*daemon/);
  });

  test('plays the demo, which needs no daemon', async () => {
    const { status, stdout, stderr } = await run(GROUP.gid, ['demo']);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /The real Nix finds 40 paths in the fresh store/);
  });
});
