/** A subscription to a whole hash map: its follower can replace the publisher. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { assertSound, Lab, narBytesOf } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

const BLOBS = [60_000, 20_000, 5_000];
const PATHS = BLOBS.length * 2;

describe('a mirror', () => {
  let lab: Lab;
  let made: MadeClosure;
  let network: readonly string[];
  let flags: readonly string[];

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    const { bootstrap } = await lab.dht(3);
    const nodes = bootstrap.flatMap(({ host, port }) => ['--dht-bootstrap', `${host}:${port}`]);
    network = ['--listen', '127.0.0.1', '--no-lan', ...nodes];
    flags = ['--no-upstream', '--trusted-public-key', made.publicKey, ...network];
  });
  after(() => lab[Symbol.asyncDispose]());

  test('a mirror holds a whole hash map, and serves it when the publisher is gone', async () => {
    const publisher = await lab.publisher(made, network);
    const mirror = await Machine.make(lab, { flags });
    await mirror.subscribe('all', publisher.address);
    const done = await mirror.updated();
    assert.deepEqual([done['outcome'], done['generation'], done['nars']], ['complete', 1, PATHS]);
    await assertSound(mirror.store, made.publicKey);
    const status = await mirror.status('all');
    assert.equal(status['health'], 'complete');
    assert.equal((status['map'] as { isExpired: boolean }).isExpired, false);

    // It follows the publisher of its subscription without any flag.
    const trust = ['--trusted-public-key', made.publicKey];
    const daemon = await mirror.service(['daemon', '--scope', 'cohort', ...trust, ...network]);
    await daemon.process.event('followed');
    await publisher.process.stop('SIGKILL');

    const third = await Machine.make(lab, { flags });
    await third.subscribe('lab', `${publisher.address}#lab`);
    const got = await third.updated();
    assert.deepEqual([got['outcome'], got['nars']], ['complete', PATHS]);
    assert.deepEqual(got['bytes'], { store: 0, peers: await narBytesOf(made.cacheDir), upstream: 0 });
    await assertSound(third.store, made.publicKey);
  });
});
