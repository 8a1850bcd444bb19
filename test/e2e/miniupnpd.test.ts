/** The router software of OpenWrt and others, in a network namespace, between a home and the internet. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Lab } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';
import { requireTool } from '../support/require-tool.ts';

/** miniupnpd takes addresses of documentation for private ones. */
const OUTSIDE = { router: '5.5.5.7', stranger: '5.5.5.9' };
const FIREWALL = `table inet miniupnpd {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname eth0 accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
    oifname wan0 masquerade
  }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}`;

/** Starts miniupnpd on a host with `eth0` to the home and `wan0` to the internet. Waits until it listens. */
async function startRouter(lab: Lab, router: Host, protocol: 'nat-pmp' | 'upnp'): Promise<AsyncDisposable> {
  const dir = await lab.folder('router');
  await writeFile(
    join(dir, 'conf'),
    `ext_ifname=wan0
listening_ip=eth0
enable_natpmp=${protocol === 'nat-pmp' ? 'yes' : 'no'}
enable_upnp=${protocol === 'upnp' ? 'yes' : 'no'}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000000
lease_file=${join(dir, 'leases')}
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 0.0.0.0/0 1024-65535
`,
  );
  router.nft(FIREWALL);
  const [program, ...args] = [
    ...router.wrapper,
    '/usr/sbin/miniupnpd',
    '-d',
    '-f',
    join(dir, 'conf'),
    '-P',
    join(dir, 'pid'),
  ] as const;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const listens = new Promise<void>((resolve, reject) => {
    child.once('exit', (status) => reject(new Error(`miniupnpd ended with ${status}`)));
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text: Buffer) => {
        if (/listening (?:on|for)/i.test(text.toString())) resolve();
      });
  });
  await listens;
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

suite('miniupnpd', () => {
  let lab: Lab;

  before(requireTool('miniupnpd-nftables', 'test', '-x', '/usr/sbin/miniupnpd'));
  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  for (const protocol of ['nat-pmp', 'upnp'] as const)
    test(`with ${protocol}, a stranger on the internet reaches a daemon at home until it stops`, async () => {
      await using lan = Lan.open();
      const [router, home, stranger] = [
        lan.host('router'),
        lan.host('home', { firewall: { tcp: [16_277] } }),
        lan.host('stranger', { addresses: 'none' }),
      ];
      router.ip(
        `link add wan0 type veth peer name wan0 netns ${stranger.namespace}`,
        `address add ${OUTSIDE.router}/24 dev wan0`,
        'link set wan0 up',
      );
      router.run('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
      stranger.ip(`address add ${OUTSIDE.stranger}/24 dev wan0`, 'link set wan0 up');
      home.routeVia(router);
      await using _router = await startRouter(lab, router, protocol);
      const connect = (): boolean => {
        const dial = `if (exec 3<>/dev/tcp/${OUTSIDE.router}/16277) 2>/dev/null; then echo yes; else echo no; fi`;
        return stranger.run('bash', '-c', dial).trim() === 'yes';
      };
      assert.equal(connect(), false);
      const daemon = ['daemon', '--store', await lab.folder('store'), '--scope', 'public', '--map-port'];
      const { process: running } = await lab.service(
        [...daemon, '--dht-bootstrap', `${OUTSIDE.stranger}:9`, '--substituter-port', '0'],
        { wrapper: home.wrapper },
      );
      const told = await running.event('port-mapping');
      assert.deepEqual(
        [told['protocol'], told['externalAddress'], told['failure']],
        [protocol, OUTSIDE.router, null],
        JSON.stringify(told),
      );
      assert.equal(connect(), true);
      assert.match(
        router.run('nft', 'list', 'table', 'inet', 'miniupnpd'),
        new RegExp(`dnat ip to ${home.ipv4}:16277`),
      );
      await running.stop();
      assert.doesNotMatch(router.run('nft', 'list', 'table', 'inet', 'miniupnpd'), /16277/);
    });
});
