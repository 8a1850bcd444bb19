/** Findings of the doctor on machines with and without problems. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { execFileSync, spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { Lab, type CliEvent, type Run } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

const OPEN = { tcp: [16_277, 16_278, 16_279, 16_280, 16_281, 16_282, 16_283, 16_284], udp: [6771, 5353] };

suite('narswarm doctor', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    made = await lab.closure([5_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const trust = (): string[] => ['--trusted-public-key', made.publicKey, '--share-keys', made.publicKey];
  const examine = async (host: Host, store: string, ...args: readonly string[]): Promise<Run> =>
    lab.run(['doctor', '--store', store, ...trust(), ...args], { wrapper: host.wrapper });
  const findings = (run: Run, check: string): CliEvent[] =>
    run.events.filter((event) => event.event === 'finding' && event['check'] === check);
  const verdicts = (run: Run, check: string): unknown[] => findings(run, check).map(({ verdict }) => verdict);
  const bad = (run: Run): unknown[] => [
    ...new Set(run.events.filter(({ verdict }) => verdict === 'bad').map(({ check }) => check)),
  ];

  test('finds no problem with a daemon behind an open firewall', async () => {
    await using lan = Lan.open();
    const host = lan.host('well', { firewall: OPEN });
    const store = await lab.folder('store');
    await lab.service(['daemon', '--store', store, ...trust()], { wrapper: host.wrapper });
    const run = await examine(host, store);
    assert.equal(run.status, 0, run.stdout);
    assert.deepEqual(bad(run), []);
    for (const check of ['versions', 'nix-conf', 'keys', 'store', 'clock', 'daemon', 'port', 'reach', 'multicast'])
      assert.deepEqual(new Set(verdicts(run, check)), new Set(['good']), check);
    assert.deepEqual(
      findings(run, 'firewall').map(({ verdict }) => verdict),
      ['good', 'good', 'good'],
    );
    assert.equal(run.event('examined')['bad'], 0);
  });

  test('a Nix daemon that hangs is a finding, and the rest is examined', async () => {
    const hangs = await lab.folder('hanging-nix');
    await writeFile(
      join(hangs, 'nix'),
      `#!/bin/sh\ncase "$*" in *store*) exec sleep 600;; esac\nexec ${execFileSync('which', ['nix'], { encoding: 'utf8' }).trim()} "$@"\n`,
      { mode: 0o755 },
    );
    const env = { PATH: `${hangs}:${lab.env['PATH']}` };
    const run = await lab.run(['doctor', '--store', await lab.folder('store'), '--scope', 'off', ...trust()], { env });
    assert.equal(run.status, 8, run.stdout);
    const [finding] = findings(run, 'nix-conf');
    assert.match(String(finding?.['message']), /^Nix failed \(`nix store ping` has not answered within 15 s\)/);
    assert.deepEqual(verdicts(run, 'clock'), ['good']);
  });

  test('finds a publisher that serves the store, as status does', async () => {
    await using lan = Lan.open();
    const host = lan.host('publishes', { firewall: OPEN });
    const args = ['--store', made.cacheDir, '--no-dht', '--key', lab.path('publisher.key'), ...trust()];
    const { process: publisher } = await lab.service(['publish', ...args], { wrapper: host.wrapper });
    const run = await examine(host, made.cacheDir);
    const [daemon] = findings(run, 'daemon');
    const served = `narswarm publish serves this store (process ${publisher.pid})`;
    assert.deepEqual([daemon?.['verdict'], daemon?.['message']], ['good', served]);
    const status = await lab.runPlain(['status', '--store', made.cacheDir]);
    assert.match(
      status.stdout,
      new RegExp(`none serves this store, but narswarm publish does .process ${publisher.pid}`),
    );
    await publisher.stop();
    assert.deepEqual(verdicts(await examine(host, made.cacheDir), 'daemon'), ['unsure']);
  });

  test('finds a closed firewall, by its rules and by multicast', async () => {
    await using lan = Lan.open();
    const host = lan.host('shut', { firewall: {} });
    const run = await examine(host, await lab.folder('store'));
    assert.equal(run.status, 9, run.stdout);
    assert.deepEqual(bad(run), ['firewall', 'multicast']);
    assert.deepEqual(verdicts(run, 'port'), ['good'], 'without a daemon, the port is free for one');
    const [peers] = findings(run, 'firewall');
    assert.match(String(peers?.['message']), /TCP 16277 for peers on eth0 is dropped by the firewall \(nftables\)/);
    assert.match(String(peers?.['wayOut']), /nft insert rule inet firewall input tcp dport 16277 accept/);
    assert.match(String(run.event('error')['message']), /4 problems found: firewall, multicast/);
  });

  for (const [what, rules] of [
    [
      'a policy that drops, in a table of any name',
      `table inet home {
        chain input {
          type filter hook input priority filter; policy drop;
          ct state vmap { established : accept, related : accept, new : jump allowed }
        }
        chain allowed {
          tcp dport 22 accept
        }
      }`,
    ],
    [
      'a last rule that rejects, and a second table',
      `table inet filter {
        chain input {
          type filter hook input priority filter; policy accept;
          iif lo accept
          ct state established,related accept
          reject
        }
      }
      table ip guard {
        chain first {
          type filter hook input priority -10; policy drop;
          iif lo accept
          ct state established,related accept
        }
      }`,
    ],
  ] as const)
    test(`its commands open a firewall with ${what}`, async () => {
      await using lan = Lan.open();
      const host = lan.host('shut');
      host.nft(rules);
      const shut = await examine(host, await lab.folder('store'));
      assert.deepEqual(bad(shut), ['firewall', 'multicast']);
      for (const { wayOut } of findings(shut, 'firewall')) {
        const commands = /^open it: (nft [^,]*), and save the rules/.exec(String(wayOut))?.[1];
        host.run('sh', '-c', commands ?? assert.fail(String(wayOut)));
      }
      assert.deepEqual(bad(await examine(host, await lab.folder('store'))), []);
    });

  test('tells whether another machine is heard by multicast', async () => {
    await using lan = Lan.open();
    const host = lan.host('asks', { firewall: OPEN });
    const alone = findings(await examine(host, await lab.folder('store')), 'multicast');
    assert.match(String(alone[0]?.['message']), /no other host is heard/);
    const other = lan.host('answers', { firewall: OPEN });
    await lab.service(['daemon', '--store', await lab.folder('other'), ...trust()], { wrapper: other.wrapper });
    const both = findings(await examine(host, await lab.folder('store')), 'multicast');
    assert.match(String(both[0]?.['message']), /sent, and another host is heard/);
    // It is on one of two networks.
    host.ip('link add br9 type bridge', 'address add 192.168.9.1/24 dev br9', 'link set br9 up');
    const heard = findings(await examine(host, await lab.folder('store')), 'multicast').map(({ facts }) => facts);
    assert.deepEqual(
      heard.map((facts) => {
        const { interface: name, others } = facts as { interface: string; others: number };
        return [name, others];
      }),
      [
        ['eth0', 1],
        ['br9', 0],
      ],
    );
  });

  test('tests multicast over IPv6 where there is no IPv4', async () => {
    await using lan = Lan.open();
    const [well, shut] = [
      lan.host('well', { addresses: 'ula', firewall: OPEN }),
      lan.host('shut', { addresses: 'ula', firewall: {} }),
    ];
    assert.deepEqual(verdicts(await examine(well, await lab.folder('store')), 'multicast'), ['good']);
    assert.deepEqual(verdicts(await examine(shut, await lab.folder('store')), 'multicast'), ['bad']);
  });

  test('finds the process that has the port', async () => {
    await using lan = Lan.open();
    const host = lan.host('taken');
    const [program, ...words] = [...host.wrapper, 'python3', '-m', 'http.server', '16277'];
    const other = spawn(program, words, {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, PYTHONUNBUFFERED: '1' },
    });
    await once(other.stdout, 'data');
    const run = await examine(host, await lab.folder('store'));
    other.kill();
    assert.equal(run.status, 9, run.stdout);
    const [port] = findings(run, 'port');
    assert.match(
      String(port?.['message']),
      new RegExp(`in use by process ${other.pid}, .*python3 -m http.server 16277`),
    );
  });

  test('finds no problem beside a running publish', async () => {
    await using lan = Lan.open();
    const host = lan.host('publisher', { firewall: OPEN });
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--key', lab.path('key'), ...trust()];
    const { process: publishing } = await lab.service(['publish', ...what], { wrapper: host.wrapper });
    const run = await examine(host, made.cacheDir);
    assert.equal(run.status, 0, run.stdout);
    const [port] = findings(run, 'port');
    assert.equal(port?.['verdict'], 'good');
    assert.equal(port['message'], `TCP 16277 for peers is that of narswarm publish (process ${publishing.pid})`);
  });

  test('finds a missing network, Nix and key, and a store that cannot be written', async () => {
    await using lan = Lan.open();
    const host = lan.host('alone', { addresses: 'none' });
    host.detach();
    const alone = await examine(host, await lab.folder('store'));
    assert.deepEqual(bad(alone), ['interfaces']);

    const empty = await lab.folder('bin');
    const wrapper = [...host.wrapper, 'env', `PATH=${empty}`];
    const without = await lab.run(['doctor', '--store', await lab.folder('store'), '--scope', 'off'], { wrapper });
    assert.equal(without.status, 8, without.stdout);
    assert.deepEqual(bad(without), ['versions']);

    // root can write anywhere except on a read-only file system
    const dir = await lab.folder('read-only');
    const mount = `mount -t tmpfs -o ro tmpfs ${dir} && exec "$@"`;
    const full = await lab.run(['doctor', '--store', join(dir, 'store'), ...trust(), '--scope', 'off'], {
      wrapper: ['unshare', '--mount', 'sh', '-c', mount, 'sh'],
    });
    assert.equal(full.status, 7, full.stdout);
    assert.deepEqual(bad(full), ['store']);
  });

  test('finds a slow clock, and reports unsure findings without failing', async () => {
    await using lan = Lan.open();
    const host = lan.host('late');
    const store = await lab.folder('store');
    const folder = join(store, 'narswarm/subscriptions');
    await mkdir(folder, { recursive: true });
    const generations: readonly never[] = [];
    const bytes = { store: 0, peers: 0, upstream: 0 };
    const lastRun = { at: '2999-01-01T00:00:00Z', durationMs: 1, outcome: 'complete', bytes, nars: 0 };
    const state = { name: 'a', source: '/x', generations, lastRun, missing: [], missingCount: 0, notes: [] };
    await writeFile(join(folder, 'a.json'), JSON.stringify(state));
    const run = await examine(host, store, '--scope', 'off');
    assert.equal(run.status, 6, run.stdout);
    assert.deepEqual(bad(run), ['clock']);
    assert.deepEqual(verdicts(run, 'daemon'), ['unsure']);
    const none = await lab.run([
      'doctor',
      '--store',
      await lab.folder('store'),
      '--trusted-public-key',
      made.publicKey,
      '--scope',
      'off',
    ]);
    assert.equal(none.status, 0, none.stdout);
    assert.deepEqual(verdicts(none, 'keys'), ['unsure']);
    assert.match(String(findings(none, 'keys')[0]?.['wayOut']), /share-keys = \["/);
  });

  const MAGNET = `magnet:?xs=urn:btpk:${'ab'.repeat(32)}`;

  test('finds a silent DHT, and names that cannot be resolved', async () => {
    await using lan = Lan.open();
    const host = lan.host('cut-off');
    const store = await lab.folder('store');
    const silent = await examine(host, store, '--publisher', MAGNET, '--dht-bootstrap', `${lan.subnet}.77:6881`);
    assert.equal(silent.status, 6, silent.stdout);
    assert.deepEqual(bad(silent), ['dht']);
    assert.match(String(findings(silent, 'dht')[0]?.['message']), /does not answer \(10\.77\.0\.77:6881 is silent\)/);
    assert.match(String(findings(silent, 'dht')[0]?.['wayOut']), /let UDP out.*HTTP mirror/);
    const unnamed = await examine(host, store, '--publisher', MAGNET, '--dht-bootstrap', 'nowhere.invalid:6881');
    assert.deepEqual(bad(unnamed), ['dht']);
    assert.match(String(findings(unnamed, 'dht')[0]?.['message']), /nowhere\.invalid:6881 is not found/);
    // its mirror is enough
    const mirrored = await examine(
      host,
      store,
      '--publisher',
      MAGNET.replace('magnet:', 'http://mirror.invalid/'),
      '--dht-bootstrap',
      `${lan.subnet}.77:6881`,
    );
    assert.equal(mirrored.status, 0, mirrored.stdout);
    assert.deepEqual(verdicts(mirrored, 'dht'), ['unsure']);
  });

  test('finds an answering DHT', async () => {
    await using lan = Lan.open();
    const node = lan.host('node');
    const args = ['--dht-port', '6881', '--listen', node.ipv4];
    await lab.service(['dht', ...args], { wrapper: node.wrapper });
    const host = lan.host('well', { firewall: OPEN });
    const run = await examine(
      host,
      await lab.folder('store'),
      '--publisher',
      MAGNET,
      '--dht-bootstrap',
      `${node.ipv4}:6881`,
    );
    assert.deepEqual(verdicts(run, 'dht'), ['good'], run.stdout);
    assert.match(String(findings(run, 'dht')[0]?.['message']), /the DHT answers \(1 of 1 node\)/);
  });

  test('finds a nix.conf that Nix cannot read, and does not blame the keys', async () => {
    await using lan = Lan.open();
    const host = lan.host('malformed');
    const run = await lab.run(['doctor', '--store', await lab.folder('store'), '--scope', 'off'], {
      wrapper: host.wrapper,
      env: { NIX_CONFIG: 'this is no setting' },
    });
    assert.equal(run.status, 8, run.stdout);
    assert.deepEqual(bad(run), ['nix-conf']);
    assert.match(String(findings(run, 'nix-conf')[0]?.['message']), /^Nix failed \((?!nix failed)/);
    const key = await lab.run(['doctor', '--store', await lab.folder('store'), '--scope', 'off'], {
      wrapper: host.wrapper,
      env: { NIX_CONFIG: 'trusted-public-keys = nonsense' },
    });
    assert.equal(key.status, 4, `${key.stdout}${key.stderr}`);
    assert.deepEqual(bad(key), ['keys']);
    assert.match(String(findings(key, 'keys')[0]?.['message']), /trusted-public-keys of nix\.conf/);
  });

  test('finds an old Nix', async () => {
    const bin = await lab.folder('bin');
    await writeFile(join(bin, 'nix'), '#!/bin/sh\n[ "$1" = --version ] && echo "nix (Nix) 2.7.0" || exit 1\n', {
      mode: 0o755,
    });
    const PATH = `${bin}:${process.env['PATH']}`;
    const run = await lab.run(['doctor', '--store', await lab.folder('store'), ...trust(), '--scope', 'off'], {
      env: { PATH },
    });
    assert.equal(run.status, 8, run.stdout);
    const [versions] = findings(run, 'versions');
    assert.equal(versions?.['verdict'], 'bad');
    assert.match(String(versions?.['wayOut']), /install Nix 2\.8 or newer/);
  });

  test('finds a full disk', async () => {
    const dir = await lab.folder('full');
    const mount = `mount -t tmpfs -o size=900m tmpfs ${dir} && exec "$@"`;
    const run = await lab.run(['doctor', '--store', join(dir, 'store'), ...trust(), '--scope', 'off'], {
      wrapper: ['unshare', '--mount', 'sh', '-c', mount, 'sh'],
    });
    assert.equal(run.status, 7, run.stdout);
    assert.deepEqual(bad(run), ['store']);
    assert.match(String(findings(run, 'store')[0]?.['message']), /MB free/);
    assert.match(String(findings(run, 'store')[0]?.['wayOut']), /free some space/);
  });

  test('finds a daemon that listens elsewhere', async () => {
    await using lan = Lan.open();
    const host = lan.host('elsewhere', { firewall: OPEN });
    const store = await lab.folder('store');
    await lab.service(['daemon', '--store', store, '--port', '16290', ...trust()], { wrapper: host.wrapper });
    const run = await examine(host, store);
    assert.deepEqual(verdicts(run, 'port'), ['unsure'], run.stdout);
    assert.match(String(findings(run, 'port')[0]?.['message']), /the daemon \(process \d+\) does not listen on it/);
    const [daemon] = findings(run, 'daemon');
    assert.match(String(daemon?.['message']), /^a daemon serves this store \(process \d+, port 16290, scope lan\)$/);
  });

  test('sends nothing beyond the local network without a publisher, or without the DHT', async () => {
    await using lan = Lan.open();
    const host = lan.host('silent');
    const beyond = host.countBeyond();
    const alone = await examine(host, await lab.folder('store'));
    assert.equal(alone.status, 0, alone.stdout);
    const without = await examine(host, await lab.folder('store'), '--publisher', MAGNET, '--no-dht');
    assert.equal(without.status, 0, without.stdout);
    assert.equal(beyond(), 0);
  });
});
