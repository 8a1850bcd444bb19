/** Rate limits between machines: for all traffic, and for traffic beyond the local network. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { Lab, type Run } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';
import { wrongClock } from '../support/wrong-clock.ts';

const BYTES = 1_200_000;
/** At this rate the closure takes four seconds, and a hundred at the slow one. */
const RATE = '300kB/s';
const SLOW = '12kB/s';
const AT_LEAST_MS = 3_000;

suite('rate limits', () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    made = await lab.closure([BYTES]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Publishes in a host, without multicast, and fetches everything from it in another. */
  async function fetchBetween(
    server: Host,
    client: Host,
    serverArgs: string[],
    clientArgs: string[] = [],
    env: Record<string, string> = {},
  ): Promise<Run> {
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const where = ['--key', lab.path('key'), '--no-dht', '--no-lan', '--listen', '0.0.0.0'];
    const publish = ['publish', ...what, ...where, ...serverArgs];
    const { ready, process: publisher } = await lab.service(publish, {
      wrapper: server.wrapper,
      env,
    });
    const from = ['--publisher', String(ready['mirror']), '--no-upstream', '--no-lan', '--no-dht', '--no-copy'];
    const into = ['--store', await lab.folder('store'), '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', 'lab', ...from, ...into, ...clientArgs], { wrapper: client.wrapper, env });
    await publisher.stop();
    assert.equal(run.status, 0, run.stderr);
    assert.ok((run.event('done')['bytes'] as { peers: number }).peers >= BYTES);
    return run;
  }

  /** A host for which others on the same wire are not on its network. */
  function far(lan: Lan, name: string): Host {
    const host = lan.host(name, { addresses: 'v4-only' });
    host.ip(`address delete ${host.ipv4}/24 dev eth0`, `address add ${host.ipv4}/32 dev eth0`);
    host.ip(`route add ${host.ipv4.replace(/\.\d+$/, '.0')}/24 dev eth0 scope link src ${host.ipv4}`);
    return host;
  }

  test('max-upload-rate limits what neighbours get', async () => {
    await using lan = Lan.open();
    const run = await fetchBetween(lan.host('server'), lan.host('client'), ['--max-upload-rate', RATE]);
    assert.ok(run.durationMs > AT_LEAST_MS, `${run.durationMs}`);
  });

  test('max-wan-upload-rate limits what peers beyond the local network get', async () => {
    await using lan = Lan.open();
    const run = await fetchBetween(far(lan, 'server'), lan.host('client'), ['--max-wan-upload-rate', RATE]);
    assert.ok(run.durationMs > AT_LEAST_MS, `${run.durationMs}`);
  });

  test('max-wan-download-rate limits what comes from beyond the local network', async () => {
    await using lan = Lan.open();
    const limit = ['--max-wan-download-rate', RATE];
    const run = await fetchBetween(lan.host('server'), far(lan, 'client'), [], limit);
    assert.ok(run.durationMs > AT_LEAST_MS, `${run.durationMs}`);
  });

  test('limits for the internet slow down no neighbour', async () => {
    await using lan = Lan.open();
    const limits = ['--max-wan-upload-rate', SLOW, '--max-wan-download-rate', SLOW];
    await fetchBetween(lan.host('server'), lan.host('client'), limits, limits); // or it is killed for its time
  });

  test('a limit ends at its time while it slows something down, in the night in which the clock goes forward', async () => {
    await using lan = Lan.open();
    const rates = '8kB/s, 02:30-06:00 unlimited'; // from 01:59 it is a second to 03:00
    const clock = { TZ: 'Europe/Berlin', ...wrongClock({ shows: new Date('2026-03-29T00:59:53Z') }) };
    await fetchBetween(lan.host('server'), lan.host('client'), ['--max-upload-rate', rates], [], clock);
  });
});
