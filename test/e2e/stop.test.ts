/** Services end in good order, whatever peers, disk or network do. Otherwise they kill themselves, with a warning. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { connect } from 'node:net';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, mirrorOf, type CliProcess } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { startSilentPeer } from '../support/silent-peer.ts';
import { stallAt } from '../support/stall-at.ts';
import { until } from '../support/update-lab.ts';

/** So that there is somebody to look for. */
const FOLLOWING = ['--publisher', `magnet:?xs=urn:btpk:${'ab'.repeat(32)}`];

describe('the end of a service', { concurrency: 3, timeout: 180_000 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([300_000, 200_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const trust = (): string[] => ['--trusted-public-key', made.publicKey, '--share-keys', made.publicKey];

  /** A service that does not end in time is killed, by itself. */
  async function assertEnds(service: CliProcess): Promise<void> {
    const { status, signal, stderr } = await service.stop('SIGTERM');
    assert.deepEqual([status, signal], [0, null], stderr);
  }

  test('does not wait for a peer that hangs, nor for one that asks and does not read', async () => {
    await using peer = await startSilentPeer();
    const store = lab.path('store');
    await cp(made.cacheDir, store, { recursive: true });
    const args = [
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      store,
      ...ALONE,
      ...trust(),
      ...FOLLOWING,
      '--peer',
      peer.address,
    ];
    const { process: daemon, ready } = await lab.service(args);
    await until(() => peer.sockets.size > 0, daemon);
    const asking = connect(Number(ready['port']), '127.0.0.1').pause();
    asking.on('error', () => undefined).unref();
    await once(asking, 'connect');
    asking.write(Buffer.from('\u0013BitTorrent protocol'));
    await assertEnds(daemon);
    asking.destroy();
  });

  test('does not wait for a DHT that is silent', async () => {
    const node = createSocket('udp4');
    node.bind(0, '127.0.0.1');
    await once(node, 'listening');
    node.unref();
    const asked = once(node, 'message');
    const bootstrap = `127.0.0.1:${node.address().port}`;
    const dht = ['--listen', '127.0.0.1', '--no-lan', '--dht-port', '0', '--dht-bootstrap', bootstrap];
    const args = ['daemon', '--substituter-port', '0', '--store', lab.path('store'), ...dht, ...trust(), ...FOLLOWING];
    const { process: daemon } = await lab.service(args);
    await asked;
    await assertEnds(daemon);
    node.close();
  });

  test('interrupts the update of a mirror, which the next one continues', async () => {
    const published = await lab.run([
      'publish',
      '--store',
      made.cacheDir,
      '--once',
      ...trust(),
      '--key',
      lab.path('key'),
    ]);
    const { address, dir } = published.event('published');
    await using maps = await startHttpCache(String(dir)); // nobody there gives NARs
    await using cache = await startHttpCache(made.cacheDir);
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 1_000 }];
    const machine = await Machine.make(lab, { flags: [] });
    await machine.subscribe('mirror', mirrorOf(String(address), maps.url));
    const args = ['daemon', '--substituter-port', '0', ...ALONE, ...trust(), '--from', cache.url];
    const { process: daemon } = await machine.service(args);
    await until(() => cache.requests.some(({ url, bytes }) => url.startsWith('/nar/') && bytes > 0), daemon);
    await assertEnds(daemon);
    cache.faults = [];
    const { process: next } = await machine.service(args);
    assert.equal((await next.event('subscription'))['outcome'], 'complete');
    await assertEnds(next);
  });

  test('waits only so long for a disk that does not answer', async () => {
    const env = stallAt('rm', /\/narswarm\/serving\//);
    const { process: daemon } = await lab.service(
      ['daemon', '--substituter-port', '0', '--store', lab.path('store'), ...ALONE, ...trust()],
      { env },
    );
    const { signal, events } = await daemon.stop('SIGTERM');
    assert.equal(signal, 'SIGKILL');
    assert.match(String(events.at(-1)?.['message']), /does not end within 8 s, such as a read of a disk/);
  });
});
