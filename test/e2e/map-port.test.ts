/** Ports that a router maps to a daemon, in network namespaces. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { writeFile } from 'node:fs/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startGateway } from '../support/gateway-process.ts';
import type { FakeGatewayOptions } from '../support/fake-gateway.ts';
import { Lab, type CliEvent } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';

/** What README opens: the router's answers have to come in by themselves. */
const OPEN = { tcp: [16_277], udp: [16_277] };

suite('map-port', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    ({ lab, made } = await openLanLab([5_000]));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A home with a router and a machine behind it. */
  const home = async (options: FakeGatewayOptions = {}) => {
    const lan = Lan.open();
    const [router, host] = [lan.host('router'), lan.host('home', { firewall: OPEN })];
    const gateway = await startGateway(router, options);
    host.routeVia(router);
    const store = await lab.folder('store');
    const trust = ['--trusted-public-key', made.publicKey];
    const start = (...args: readonly string[]) =>
      lab.service(
        [
          'daemon',
          '--store',
          store,
          ...trust,
          '--dht-bootstrap',
          `${router.ipv4}:9`,
          '--substituter-port',
          '0',
          ...args,
        ],
        { wrapper: host.wrapper },
      );
    const stack = new AsyncDisposableStack();
    stack.use(lan);
    stack.use(gateway);
    return {
      router,
      host,
      gateway,
      store,
      start,
      trust,
      inHost: (...args: readonly string[]) => lab.run(args, { wrapper: host.wrapper }),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  };
  const factsOf = async (place: { inHost: (...args: string[]) => ReturnType<Lab['run']>; store: string }) =>
    (await place.inHost('status', '--store', place.store)).event('daemon')['portMapping'] as CliEvent;
  /** Examines without options: the daemon knows. */
  const routerOf = async (place: { inHost: (...args: string[]) => ReturnType<Lab['run']>; store: string }) => {
    const run = await place.inHost(
      'doctor',
      '--store',
      place.store,
      '--trusted-public-key',
      made.publicKey,
      '--no-dht',
    );
    return run.events.filter(({ check }) => check === 'router');
  };
  const examine = (place: { inHost: (...args: string[]) => ReturnType<Lab['run']>; store: string; router: Host }) => {
    const flags = ['--scope', 'public', '--map-port', '--dht-bootstrap', `${place.router.ipv4}:9`];
    return place.inHost('doctor', '--store', place.store, '--trusted-public-key', made.publicKey, ...flags);
  };
  const get = (host: Host, ready: CliEvent, path: string): string => {
    const url = new URL(path, String(ready['statusPage'])).href;
    return host.run('curl', '-sS', url);
  };

  test('the ports for peers and the DHT are mapped, shown everywhere, and unmapped at the stop', async () => {
    await using place = await home();
    const { process: daemon, ready } = await place.start('--scope', 'public', '--map-port');
    const told = await daemon.event('port-mapping', ({ failure }) => failure === null);
    assert.equal(told['externalAddress'], '203.0.113.7');
    const { mappings } = await place.gateway.state();
    assert.deepEqual(Object.keys(mappings).toSorted(), ['tcp 16277', 'udp 16277']);
    assert.equal(mappings['tcp 16277']?.client, place.host.ipv4);
    assert.deepEqual((await factsOf(place))['protocol'], 'nat-pmp');
    const shown = await lab.runPlain(['status', '--store', place.store], { wrapper: place.host.wrapper });
    assert.match(
      shown.stdout,
      /router {4}the router 10\.77\.0\.1 maps TCP 16277 and UDP 16277 of 203\.0\.113\.7 to this machine, by NAT-PMP/,
    );
    assert.match(get(place.host, ready, '/metrics'), /narswarm_mapped_ports\{protocol="tcp"\} 1/);
    assert.match(get(place.host, ready, '/status'), /maps TCP 16277 and UDP 16277 of 203\.0\.113\.7/);
    assert.doesNotMatch(get(place.host, ready, '/health'), /port-not-mapped/);
    const [unasked] = await routerOf(place);
    assert.equal(unasked?.['verdict'], 'good');
    assert.match(String(unasked?.['message']), /the router 10\.77\.0\.1 maps TCP 16277 and UDP 16277/);
    const examined = await examine(place);
    const finding = examined.events.find(({ check }) => check === 'router');
    assert.equal(finding?.['verdict'], 'good', examined.stdout);
    const run = await daemon.stop();
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual((await place.gateway.state()).mappings, {});
  });

  test('nothing is asked of a router unless it is asked for, whatever the scope', async () => {
    await using place = await home();
    const { process: daemon } = await place.start('--scope', 'public');
    assert.equal(await factsOf(place), null);
    await daemon.stop();
    assert.deepEqual((await place.gateway.state()).asked, []);
  });

  test('with scope lan there is nothing to map: the daemon says so, and asks no router', async () => {
    await using place = await home();
    const { process: daemon } = await place.start('--map-port');
    assert.equal((await factsOf(place))['failure'], 'scope');
    const { stdout } = await daemon.stop();
    assert.match(stdout, /--map-port has nothing to do: scope lan .*give --scope cohort or public/);
    assert.deepEqual((await place.gateway.state()).asked, []);
  });

  test('a publisher with map-port in its config file has its port mapped by UPnP', async () => {
    await using place = await home({ natPmp: false, onlyPermanent: true });
    const config = lab.path('map.toml');
    await writeFile(config, 'map-port = true\n');
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, ...place.trust];
    const { process: publisher } = await lab.service(['publish', ...what, '--key', lab.path('key'), '--no-dht'], {
      wrapper: place.host.wrapper,
      env: { NARSWARM_CONFIG: config },
    });
    const told = await publisher.event('port-mapping');
    assert.equal(told['protocol'], 'upnp');
    assert.deepEqual(Object.keys((await place.gateway.state()).mappings), ['tcp 16277']);
    await publisher.stop();
    assert.deepEqual((await place.gateway.state()).mappings, {});
  });

  test('the doctor says of a daemon without map-port that it asks no router, and nothing without a daemon', async () => {
    await using place = await home();
    const { process: daemon } = await place.start('--scope', 'lan');
    const [finding] = await routerOf(place);
    assert.equal(finding?.['verdict'], 'good');
    assert.equal(finding?.['message'], 'the daemon has no map-port, so it asks no router for anything');
    const wanted = (await examine(place)).events.find(({ check }) => check === 'router');
    assert.equal(wanted?.['verdict'], 'unsure');
    assert.match(String(wanted?.['message']), /was started without map-port/);
    assert.equal((await daemon.stop()).status, 0);
    assert.deepEqual(await routerOf(place), []);
  });

  test('without an answer the daemon goes on; the doctor says why nothing is mapped, and what to do', async () => {
    await using place = await home({ natPmp: false, upnp: false });
    const { process: daemon } = await place.start('--scope', 'public', '--map-port');
    await daemon.event('port-mapping', ({ failure }) => failure === 'no-answer');
    const examined = await examine(place);
    const finding = examined.events.find(({ check }) => check === 'router');
    assert.equal(finding?.['verdict'], 'bad');
    assert.match(
      String(finding?.['message']),
      /the router 10\.77\.0\.1 does not answer, neither by NAT-PMP nor by UPnP/,
    );
    assert.match(String(finding?.['wayOut']), /switch UPnP or NAT-PMP on in the router/);
    assert.equal((await daemon.stop()).status, 0);
    const later = (await examine(place)).events.find(({ check }) => check === 'router');
    assert.equal(later?.['verdict'], 'unsure');
    assert.match(String(later?.['message']), /no daemon answers/);
  });
});
