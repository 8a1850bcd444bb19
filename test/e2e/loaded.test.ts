/** Code that the built program loads: each start takes time for it, and code that is not loaded can do no harm. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startHttpCache } from '../support/http-cache.ts';
import { Swarm } from '../../src/swarm/swarm.ts';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab, readNarInfos, torrentIn } from '../support/lab.ts';
import { readLoaded, tellLoaded, type Loaded } from '../support/loaded.ts';
import { Lan, requireNamespaces } from '../support/namespaces.ts';

const NOTHING: Loaded = {
  webTorrent: false,
  dht: false,
  mdns: false,
  tls: false,
  fetchOfNode: false,
  fetchOfWebTorrent: false,
};
/** The HTTP port of a daemon is on fastify, which loads TLS. */
const DAEMON: Loaded = { ...NOTHING, tls: true };
const SHARED = ['--share-keys', 'fixture-1'];

suite('code that a process loads', { concurrency: 3 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A store with the fixture, whose contents are checked and may be served. */
  async function fullStore(): Promise<string> {
    const store = await lab.folder('full');
    const from = ['--from', `file://${await lab.fixtureCache()}`, '--trusted-public-key', await fixtureKey()];
    const run = await lab.run(['fetch', FIXTURE_ROOT, '--store', store, ...from, '--no-copy', ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    const check = await lab.run(['verify', '--deep', '--store', store, '--trusted-public-key', await fixtureKey()]);
    assert.equal(check.status, 0, check.stderr);
    return store;
  }

  test('--version loads no network', async () => {
    const file = lab.path('version');
    const { status } = await lab.runPlain(['--version'], { env: tellLoaded(file) });
    assert.equal(status, 0);
    assert.deepEqual(await readLoaded(file), NOTHING);
  });

  test('a fetch from caches over plain http loads no library for peers, and no TLS', async () => {
    const cache = lab.use(await startHttpCache(await lab.fixtureCache()));
    const file = lab.path('fetch');
    const from = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', await fixtureKey(), '--no-copy'];
    const run = await lab.run(['fetch', FIXTURE_ROOT, '--store', await lab.folder('store'), ...from, ...ALONE], {
      env: tellLoaded(file),
    });
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(await readLoaded(file), NOTHING);
  });

  test('members load neither WebTorrent nor the DHT, on either side', async () => {
    requireNamespaces();
    const lan = lab.use(Lan.open());
    const [giver, taker] = [lab.path('giver'), lab.path('taker')];
    const trust = ['--trusted-public-key', await fixtureKey(), ...SHARED];
    const { process: daemon } = await lab.service(['daemon', '--store', await fullStore(), ...trust], {
      wrapper: lan.host('giver').wrapper,
      env: tellLoaded(giver),
    });
    const store = ['--store', await lab.folder('store'), '--no-copy'];
    const run = await lab.run(['fetch', FIXTURE_ROOT, ...store, '--no-upstream', ...trust], {
      wrapper: lan.host('taker').wrapper,
      env: tellLoaded(taker),
    });
    assert.equal(run.status, 0, run.stderr);
    await daemon.stop();
    assert.deepEqual([await readLoaded(giver), await readLoaded(taker)], [DAEMON, NOTHING]);
  });

  test('a daemon loads WebTorrent for a BitTorrent client, without code that follows URLs', async (t) => {
    const file = lab.path('daemon');
    const dir = await fullStore();
    const [info] = (await readNarInfos(dir)).values();
    assert.ok(info !== undefined);
    const { infoHash } = await torrentIn(dir, info);
    const args = ['daemon', '--store', dir, '--trusted-public-key', await fixtureKey(), ...SHARED, ...ALONE];
    const { process: daemon, ready } = await lab.service(args, { env: tellLoaded(file) });

    await using swarm = await Swarm.listen({ host: '127.0.0.1' });
    const reader = await swarm.read(infoHash);
    const peer = swarm.peers.add({ host: '127.0.0.1', port: Number(ready['port']) });
    const asking = setInterval(() => reader.addPeer(peer), 100); // it is refused until its contents are checked
    t.after(() => clearInterval(asking));
    const { signal } = t;
    await assert.rejects(reader.readFile('none', { maxBytes: 1, signal }), { code: 'INDEX_INVALID' }); // it has come
    clearInterval(asking);
    await daemon.stop();
    assert.deepEqual(await readLoaded(file), { ...DAEMON, webTorrent: true, dht: true });
  });
});
