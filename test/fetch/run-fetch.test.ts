import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePublisherAddress } from '../../src/index/address.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { runFetch } from '../../src/fetch/run-fetch.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { FIXTURE_ROOT, fixtureKey, Lab } from '../support/lab.ts';
import { failOnWarning } from '../support/no-warnings.ts';
import { startSilentPeer } from '../support/silent-peer.ts';

test('an interruption before the seeding skips it', { timeout: 180_000 }, async () => {
  await using lab = await Lab.open();
  await using cache = await startHttpCache(await lab.fixtureCache());
  const stop = new AbortController();
  let done = false;
  const seeding: number[] = [];
  await runFetch({
    roots: [FIXTURE_ROOT],
    publishers: [],
    upstreams: [parseUpstream(cache.url)],
    keys: [parsePublicKey(await fixtureKey())],
    trustedPublicKeys: [],
    copy: false,
    storeDir: await lab.folder('store'),
    network: { scope: 'lan', listen: '127.0.0.1', dht: false, lan: false, peers: [] },
    seedForMs: 3_600_000,
    publisherTimeoutMs: 1_000,
    signal: stop.signal,
    onWarning: failOnWarning,
    onDone: () => {
      done = true;
      stop.abort(new Error('Ctrl-C'));
    },
    onSeeding: (port) => seeding.push(port),
  });
  assert.ok(done);
  assert.deepEqual(seeding, []);
});

test('all parts of a run ask a silent publisher once', { timeout: 180_000 }, async () => {
  await using lab = await Lab.open();
  await using cache = await startHttpCache(await lab.fixtureCache());
  await using publisher = await startSilentPeer();
  const { closure } = await runFetch({
    roots: [FIXTURE_ROOT],
    fetchMore: async (fetchPart) => void (await fetchPart([parseStorePath(FIXTURE_ROOT)])),
    publishers: [parsePublisherAddress(`http://${publisher.address}/?xs=urn:btpk:${'ab'.repeat(32)}`)],
    upstreams: [parseUpstream(cache.url)],
    keys: [parsePublicKey(await fixtureKey())],
    trustedPublicKeys: [],
    copy: false,
    storeDir: await lab.folder('store'),
    network: undefined,
    seedForMs: 0,
    publisherTimeoutMs: 60_000,
    signal: new AbortController().signal,
    onWarning: failOnWarning,
  });
  assert.ok(closure.size > 0);
  assert.equal(publisher.sockets.size, 1);
});
