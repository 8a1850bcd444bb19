/** Without a publisher, nothing is sent beyond the local network, and no name is looked up. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { Lab } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

const PUBLISHER = `magnet:?xs=urn:btpk:${'8c'.repeat(32)}`;

suite('packets beyond the local network', () => {
  let lab: Lab;
  let gateway: Host;
  let lan: Lan;
  let made: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    lan = lab.use(Lan.open());
    gateway = lan.host('gateway');
    made = await lab.closure([5_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A host with a default route to nowhere, and a count of the packets that it sent there. */
  function withWayOut(name: string): { host: Host; sent: () => number } {
    const host = lan.host(name);
    host.routeVia(gateway);
    return { host, sent: host.countBeyond() };
  }

  const store = async (): Promise<string[]> => ['--store', await lab.folder('store')];

  test('a daemon without a publisher sends none; one with a publisher looks it up', async () => {
    const idle = withWayOut('idle');
    const { ready } = await lab.service(['daemon', ...(await store())], { wrapper: idle.host.wrapper });
    assert.equal(ready['dhtPort'], null);

    const following = withWayOut('following');
    const args = ['daemon', '--publisher', PUBLISHER, ...(await store())];
    const second = await lab.service(args, { wrapper: following.host.wrapper });
    assert.equal(typeof second.ready['dhtPort'], 'number');
    while (following.sent() === 0) await sleep(50);

    assert.equal(idle.sent(), 0); // though it was started before
  });

  test('fetch and update of a path of a local cache send none', async () => {
    const { host, sent } = withWayOut('plain');
    await using cache = await startCacheOn(gateway, made.cacheDir);
    const from = ['--from', cache.url, '--trusted-public-key', made.publicKey];
    for (const args of [
      ['fetch', made.root, ...from, '--no-copy', ...(await store())],
      ['subscribe', 'lab', made.root],
      ['update', ...from, ...(await store())],
    ]) {
      const run = await lab.run(args, { wrapper: host.wrapper });
      assert.equal(run.status, 0, run.stderr);
    }
    assert.equal(sent(), 0);
  });
});
