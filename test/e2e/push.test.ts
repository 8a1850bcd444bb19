/** One deploy host and several servers with an sshd: what is pushed reaches all of them. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { assertFailure, Lab, type CliEvent, type ProcessOptions, type Run } from '../support/lab.ts';
import { BlockedBuild } from '../support/blocked-build.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { until } from '../support/update-lab.ts';
import { makeSshUser, SshHost, type SshHostOptions, type SshUser } from '../support/ssh-host.ts';

const PATHS = 4;
const IN_TERMINAL = fileURLToPath(new URL('../support/in_terminal.py', import.meta.url));

/** Returns the facts of the failure of one host. */
function failureOf({ events }: Run, host: string): CliEvent {
  const found = events.find((event) => event.event === 'host-failed' && event['host'] === host);
  assert.ok(found !== undefined, `${host} has not failed`);
  return found;
}

suite('a push', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let user: SshUser;
  before(async () => {
    lab = await Lab.open();
    [made, user] = await Promise.all([lab.closure([600_000, 20_000]), makeSshUser(lab)]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const as = (deploy: Host): ProcessOptions => ({
    wrapper: deploy.wrapper,
    env: {
      NIX_REMOTE: `local?root=${made.buildStore}`,
      NIX_SSHOPTS: user.sshOptions,
      STATE_DIRECTORY: stateOf(deploy),
    },
  });
  const stateOf = (deploy: Host): string => join(lab.dir, deploy.namespace);
  const push = (deploy: Host, ...args: readonly string[]): Promise<Run> =>
    lab.run(['push', made.root, ...args], as(deploy));
  const serve = (host: Host, options: Partial<SshHostOptions> = {}): Promise<SshHost> =>
    SshHost.start(lab, host, { user, trustedKeys: [made.publicKey], ...options });

  test('two servers get the closure, and a third one has it already', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const [a, b] = await Promise.all([serve(lan.host('a')), serve(lan.host('b'))]);
    const dry = await push(deploy, a.name, b.name, '--dry-run');
    assert.deepEqual([dry.status, dry.event('lacking')['paths']], [0, PATHS], dry.stderr);
    for (const server of [a, b]) {
      while (server.runs('receive')) await sleep(20);
      assert.ok(!existsSync(server.incoming), 'a dry run leaves something');
    }
    const first = await push(deploy, a.name);
    assert.equal(first.status, 0, first.stderr);
    const run = await push(deploy, a.name, b.name);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('pushed'), { ...run.event('pushed'), hosts: 2, complete: 2 });
    const paths = new Map(
      run.events.flatMap(({ event, host, paths: count }) => (event === 'host-done' ? [[host, count]] : [])),
    );
    assert.deepEqual([paths.get(a.name), paths.get(b.name)], [0, PATHS]);
    for (const server of [a, b]) {
      assert.equal(server.requisites(made.root).length, PATHS);
      assert.ok(!existsSync(server.incoming), 'what was imported is left');
    }
    assert.deepEqual(await readdir(join(stateOf(deploy), 'push/outgoing')), [], 'what was exported is left');
  });

  test('without a signature that their Nix trusts, servers refuse before anything is downloaded', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const server = await serve(lan.host('a'), { trustedKeys: [] });
    const run = await push(deploy, server.name);
    assert.equal(run.status, 12, run.stderr);
    assert.match(run.stderr, /lacks a signature by a key that its Nix trusts.*--no-check-sigs/s);
    const { kind, exitStatus, hostCode, wayOut } = failureOf(run, server.name);
    assert.deepEqual(
      { kind, exitStatus, hostCode, wayOut },
      { kind: 'narswarm', exitStatus: 4, hostCode: 'NARINFO_UNTRUSTED', wayOut: null },
    );
    assert.ok(!run.events.some(({ event }) => event === 'progress'));
    const onWord = await push(deploy, server.name, '--no-check-sigs');
    assert.equal(onWord.status, 0, onWord.stderr);
    assert.equal(server.requisites(made.root).length, PATHS);
  });

  test('servers without narswarm run a copy; without Node or Nix they say what is missing', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const bare = { PATH: '/usr/bin:/bin' };
    const barer = { PATH: await lab.folder('barer') };
    await symlink('/bin/sh', join(barer.PATH, 'sh'));
    const [a, b, c] = await Promise.all([
      serve(lan.host('a'), { programs: ['node'], env: bare }),
      serve(lan.host('b'), { programs: [], env: bare }),
      serve(lan.host('c'), { env: barer }),
    ]);
    const run = await push(deploy, a.name, b.name, c.name);
    assert.equal(run.status, 12, run.stderr);
    assert.match(run.stderr, new RegExp(`${b.name}: it has neither this version of narswarm nor Node 24`));
    const { kind, wayOut } = failureOf(run, b.name);
    assert.deepEqual([kind, wayOut], ['no-program', 'install one of them there']);
    assert.match(run.stderr, new RegExp(`${c.name}: there is no \`nix-store\` in PATH: install Nix there, or put it`));
    assert.equal(a.requisites(made.root).length, PATHS);
  });

  test('servers that nobody reaches otherwise get everything through ssh', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy', { firewall: {} });
    const [a, b] = await Promise.all(['a', 'b'].map((name) => serve(lan.host(name, { firewall: { tcp: [22] } }))));
    assert.ok(a !== undefined && b !== undefined);
    for (const [server, ...args] of [[a], [b, '--listen', deploy.ipv4]] as const) {
      const run = await push(deploy, server.name, ...args);
      assert.equal(run.status, 0, run.stderr);
      assert.equal(server.requisites(made.root).length, PATHS);
    }
  });

  test('servers that reach each other, but not the pushing machine, get everything through ssh', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy', { firewall: {} });
    deploy.nft(`table inet outside {
      chain output {
        type filter hook output priority filter;
        oifname != lo tcp dport != 22 ct state new drop
      }
    }`);
    const servers = await Promise.all(['a', 'b'].map((name) => serve(lan.host(name))));
    const run = await push(deploy, ...servers.map(({ name }) => name));
    assert.equal(run.status, 0, run.stderr);
    for (const server of servers) assert.equal(server.requisites(made.root).length, PATHS);
  });

  test('a server with two names gets everything once, and is one host', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const [a, b] = await Promise.all([serve(lan.host('a')), serve(lan.host('b'))]);
    const again = `ssh://${a.name}`;
    const run = await push(deploy, a.name, again, b.name);
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), /are one host: it gets everything once/);
    assert.deepEqual(run.event('pushed'), { ...run.event('pushed'), hosts: 2, complete: 2 });
    for (const server of [a, b]) assert.equal(server.requisites(made.root).length, PATHS);
    const dry = await push(deploy, a.name, again, '--dry-run');
    assert.equal(dry.status, 0, dry.stderr);
    assert.equal(dry.events.filter(({ event }) => event === 'lacking').length, 1);
  });

  test('of a path that is not built, no server is blamed', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const server = await serve(lan.host('a'));
    const run = await lab.run(['push', `/nix/store/${'0'.repeat(32)}-unbuilt`, server.name], as(deploy));
    assertFailure(run, 3, 'NOT_FOUND', /is not valid in the Nix store of this machine: build it first/);
    assert.ok(!run.events.some(({ event }) => event === 'host-failed'));
  });

  test('ssh asks no questions in the terminal for several servers', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const servers = await Promise.all(['a', 'b'].map((name) => serve(lan.host(name))));
    const wrapper = [...deploy.wrapper, 'python3', IN_TERMINAL, '200', '30', '--'];
    const asks = user.sshOptions.replace('StrictHostKeyChecking=no', 'StrictHostKeyChecking=ask');
    const { env } = as(deploy);
    const run = await lab.runPlain(['push', made.root, ...servers.map(({ name }) => name)], {
      wrapper,
      env: { ...env, NIX_SSHOPTS: asks },
      limitMs: 60_000, // if it asks
    });
    assert.equal(run.status, 12, run.stdout);
    for (const { name } of servers) assert.match(run.stdout, new RegExp(`${name}: Host key verification failed`));
  });

  test('a server that refuses and one that is off leave the others alone, and are named', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const [a, b] = await Promise.all([serve(lan.host('a')), serve(lan.host('b'), { config: ['AllowUsers nobody'] })]);
    const off = `root@${lan.host('off').ipv4}`;
    const run = await push(deploy, a.name, b.name, off);
    assert.equal(run.status, 12, run.stderr);
    assert.match(run.stderr, new RegExp(`${b.name}: .*Permission denied`));
    assert.match(run.stderr, new RegExp(`${off}: .*Connection refused`));
    assert.match(run.stderr, /^error: 2 of 3 hosts failed: /m);
    for (const name of [b.name, off]) {
      const failed = failureOf(run, name);
      assert.deepEqual([failed['kind'], failed['exitStatus'], failed['hostCode']], ['ssh', 255, null]);
      assert.match(String(failed['wayOut']), new RegExp(`^ssh ${name} true must work without a question`));
    }
    const { facts, message } = run.event('error');
    assert.deepEqual(facts, { hosts: [b.name, off], failed: 2, total: 3 });
    assert.match(String(message), /^2 of 3 hosts failed: .*Permission denied.*; .*Connection refused/);
    assert.equal(a.requisites(made.root).length, PATHS);
  });
});

suite('a push of a large closure', { concurrency: 1 }, () => {
  const RATE = { upKbit: 8_000, downKbit: 8_000 };
  let lab: Lab;
  let made: MadeClosure;
  let user: SshUser;
  before(async () => {
    lab = await Lab.open();
    [made, user] = await Promise.all([lab.closure([2_000_000, 2_000_000]), makeSshUser(lab)]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const as = (deploy: Host): ProcessOptions => ({
    wrapper: deploy.wrapper,
    env: { NIX_REMOTE: `local?root=${made.buildStore}`, NIX_SSHOPTS: user.sshOptions },
  });
  const serve = (host: Host): Promise<SshHost> => SshHost.start(lab, host, { user, trustedKeys: [made.publicKey] });
  const hasBytes = ({ bytes }: Readonly<Record<string, unknown>>): boolean => Number(bytes) > 0;

  test('a server that dies in the middle leaves the others alone', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy', RATE);
    const [a, b] = await Promise.all([serve(lan.host('a')), serve(lan.host('b'))]);
    const running = lab.start(['push', made.root, a.name, b.name], as(deploy));
    await running.event('progress', (event) => event['host'] === b.name && hasBytes(event));
    b.host.signal('SIGKILL');
    const run = await running.end();
    assert.equal(run.status, 12, run.stderr);
    assert.match(run.stderr, new RegExp(`${b.name}: `));
    assert.equal(failureOf(run, b.name)['kind'], 'lost');
    assert.equal(a.requisites(made.root).length, PATHS);
  });

  test('a server that is cut off from the pushing machine in the middle gets the rest through ssh', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy', { upKbit: 4_000, downKbit: 4_000 });
    const a = await serve(lan.host('a'));
    const running = lab.start(['push', made.root, a.name], as(deploy));
    await running.event('progress', ({ bytes }) => Number(bytes) > 2_000_000); // for four seconds, all was well
    deploy.nft(`table inet cut {
      chain input {
        type filter hook input priority filter;
        iifname != lo tcp sport != 22 reject with tcp reset
      }
      chain output {
        type filter hook output priority filter;
        oifname != lo tcp dport != 22 drop
      }
    }`);
    const run = await running.end();
    assert.equal(run.status, 0, run.stderr);
    assert.equal(a.requisites(made.root).length, PATHS);
  });

  test('an interrupted push ends the processes on the servers, and the next one continues', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy', RATE);
    const a = await serve(lan.host('a'));
    const running = lab.start(['push', made.root, a.name], as(deploy));
    await running.event('progress', ({ bytes }) => Number(bytes) > 1_500_000); // some pieces are whole
    const interrupted = await running.stop('SIGINT');
    assert.equal(interrupted.status, 130);
    assert.ok(!interrupted.events.some(({ event }) => event === 'host-failed'), 'the host has done nothing wrong');
    while (a.runs('receive')) await sleep(20);
    assert.ok(existsSync(a.incoming), 'what had arrived is gone');
    const run = await lab.run(['push', made.root, a.name], as(deploy));
    assert.equal(run.status, 0, run.stderr);
    assert.equal(a.requisites(made.root).length, PATHS);
    const { bytes } = run.event('host-done'); // what was kept was fetched before, or is imported
    assert.ok(Number(bytes) < 4_000_000, `${String(bytes)} bytes came again`);
  });
});

suite('a push beside a build', { concurrency: 1 }, () => {
  test('the next paths are downloaded while Nix imports those before', async () => {
    await using lab = await Lab.open();
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const [user, build] = await Promise.all([makeSshUser(lab), BlockedBuild.make(lab)]);
    const server = await SshHost.start(lab, lan.host('a'), { user });
    const mayImport = join(server.dir, 'may-import');
    for (const program of ['nix', 'nix-daemon'])
      await writeFile(
        join(server.dir, 'bin', program),
        `#!/bin/sh
        case " $* " in *' copy '* | ' --stdio '*) while [ ! -e '${mayImport}' ]; do sleep 0.1; done ;; esac
        PATH=\${PATH#*:} exec ${program} "$@"\n`,
        { mode: 0o755 },
      );
    const building = build.start();
    const running = lab.start(['push', '--watch', '-f', build.file, 'top', server.name, '--no-check-sigs'], {
      wrapper: deploy.wrapper,
      env: { ...build.env, NIX_SSHOPTS: user.sshOptions },
    });
    const isDownloaded = ({ nars, totalNars }: CliEvent): boolean => nars === totalNars;
    const { totalNars } = await running.event('progress', isDownloaded);
    await build.goOn();
    await building;
    await running.event('progress', (event) => Number(event['totalNars']) > Number(totalNars) && isDownloaded(event));
    assert.equal(server.isValid(build.first), false);
    await writeFile(mayImport, '');
    const run = await running.end();
    assert.equal(run.status, 0, run.stderr);
    assert.ok(server.isValid(build.top));
  });

  test('what is built goes out while the rest is still being built', async () => {
    await using lab = await Lab.open();
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const [user, build] = await Promise.all([makeSshUser(lab), BlockedBuild.make(lab)]);
    const server = await SshHost.start(lab, lan.host('a'), { user });
    const building = build.start();
    const running = lab.start(['push', '--watch', '-f', build.file, 'top', server.name, '--no-check-sigs'], {
      wrapper: deploy.wrapper,
      env: { ...build.env, NIX_SSHOPTS: user.sshOptions },
    });
    await until(() => server.isValid(build.first), running);
    assert.equal(server.isValid(build.top), false);
    await build.goOn();
    await building;
    const run = await running.end();
    assert.equal(run.status, 0, run.stderr);
    assert.ok(server.isValid(build.top));
  });
});
