/** While Nix waits for NARs that a daemon fetches, an update of the same store requests none. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inState } from '../../src/store/state-folder.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { assertSound, Lab } from '../support/lab.ts';
import { cacheAfterDaemon, largestOf, narRequests, startSubstitution } from '../support/substituting.ts';
import { Machine, updated } from '../support/update-lab.ts';

suite('Nix first', () => {
  let lab: Lab;

  before(async () => (lab = await Lab.open()));
  after(() => lab[Symbol.asyncDispose]());

  test('an update gives way to Nix, and goes on once Nix has its NARs', { timeout: 120_000 }, async () => {
    const made = await cacheAfterDaemon(lab, [300_000, 5_000]);
    const other = await lab.closure([200_000, 4_000, 3_000], 'other');
    await using one = await startSubstitution(lab, made);
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    one.upstream.faults = [{ kind: 'hold', match: new RegExp((await largestOf(made)).url), until }];
    const nix = await one.nix();
    const realising = nix.realise(made.root);
    const told = inState({ stateDir: join(one.store, 'narswarm') }, 'nix-waits');
    while ((await readdir(told).catch(() => [])).length === 0) await sleep(20);

    await using cache = await startHttpCache(other.cacheDir);
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', other.publicKey];
    const machine = await Machine.of(lab, { other: { source: other.root } }, flags, one.store);
    const update = machine.start();
    const narInfos = (): number => cache.requests.filter(({ url }) => url.endsWith('.narinfo')).length;
    const paths = (await readdir(other.cacheDir)).filter((name) => name.endsWith('.narinfo')).length;
    while (narInfos() < paths) await sleep(20);
    await sleep(1_500);
    assert.equal(narRequests(cache).size, 0, 'nothing that Nix does not wait for');
    release();
    const { status, stderr } = await realising.ended;
    assert.equal(status, 0, stderr);
    assert.equal(updated(await update.end())['outcome'], 'complete');
    assert.equal(narRequests(cache).size, paths);
    await one.daemon.stop();
    await assertSound(one.store, [made.publicKey, other.publicKey]);
  });
});
