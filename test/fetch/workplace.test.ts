import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { HashMaps } from '../../src/fetch/sources/hash-maps.ts';
import type { PrefetchOptions } from '../../src/fetch/prefetch-options.ts';
import { Workplace } from '../../src/fetch/workplace.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { parsePublisherAddress } from '../../src/index/address.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { inState } from '../../src/store/state-folder.ts';
import type { Warn } from '../../src/warning.ts';
import { FIXTURE_ROOT, fixtureKey, Lab } from '../support/lab.ts';
import { failOnWarning } from '../support/no-warnings.ts';
import { startSilentPeer } from '../support/silent-peer.ts';

/** A workplace, and a fetch that does without its publisher. */
async function opened(
  lab: Lab,
  publisher: string,
  onWarning: Warn,
): Promise<{ workplace: Workplace; fetch: PrefetchOptions }> {
  const storeDir = await lab.folder('store');
  const keys = [parsePublicKey(await fixtureKey())];
  const workplace = await Workplace.open({ storeDir, keys, network: undefined, onWarning });
  const fetch = {
    roots: [FIXTURE_ROOT],
    publishers: [parsePublisherAddress(`http://${publisher}/?xs=urn:btpk:${'ab'.repeat(32)}`)],
    upstreams: [parseUpstream(`file://${await lab.fixtureCache()}`)],
    trustedPublicKeys: [],
    copy: false,
    publisherTimeoutMs: 3_600_000,
  };
  return { workplace, fetch };
}

test('a publisher that fails after the first fetch is a warning of the run', { timeout: 180_000 }, async (t) => {
  await using lab = await Lab.open();
  const publisher = await startSilentPeer();
  const warned = Promise.withResolvers<string>();
  const { workplace, fetch } = await opened(lab, publisher.address, ({ kind }) => warned.resolve(`run: ${kind}`));
  await using _workplace = workplace;
  await workplace.prefetch(fetch, {
    tell: ({ type }) => type === 'warning' && warned.resolve('first fetch'),
    signal: t.signal,
  });
  await publisher[Symbol.asyncDispose]();
  assert.equal(await warned.promise, 'run: failed');
});

test('hash maps that cannot be closed keep nothing else open', { timeout: 180_000 }, async (t) => {
  await using lab = await Lab.open();
  await using publisher = await startSilentPeer();
  const { workplace, fetch } = await opened(lab, publisher.address, failOnWarning);
  await workplace.prefetch(fetch, { tell: () => undefined, signal: t.signal });
  const close = HashMaps.prototype[Symbol.asyncDispose];
  t.after(() => (HashMaps.prototype[Symbol.asyncDispose] = close));
  HashMaps.prototype[Symbol.asyncDispose] = async function () {
    await close.call(this);
    throw new Error('the disk is gone');
  };
  await assert.rejects(workplace[Symbol.asyncDispose](), /the disk is gone/);
  assert.deepEqual(await readdir(inState(workplace.store, 'partial')), []);
});
