/** What the built program loads: each start pays for it, and what is not loaded does nothing by accident. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab } from '../support/lab.ts';
import { readLoaded, tellLoaded, type Loaded } from '../support/loaded.ts';

const NOTHING: Loaded = { webTorrent: false, fetchOfNode: false, fetchOfWebTorrent: false };

suite('what a process loads', { concurrency: 3 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  test('--version loads no network', async () => {
    const file = lab.path('version');
    const { status } = await lab.runPlain(['--version'], { env: tellLoaded(file) });
    assert.equal(status, 0);
    assert.deepEqual(await readLoaded(file), NOTHING);
  });

  test('a fetch from caches alone loads no WebTorrent', async () => {
    const cache = lab.use(await startHttpCache(await lab.fixtureCache()));
    const file = lab.path('fetch');
    const from = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', await fixtureKey(), '--no-copy'];
    const run = await lab.run(['fetch', FIXTURE_ROOT, '--store', await lab.folder('store'), ...from, ...ALONE], {
      env: tellLoaded(file),
    });
    assert.equal(run.status, 0, run.stderr);
    assert.equal((await readLoaded(file)).webTorrent, false);
  });

  test('a daemon loads WebTorrent without anything that would follow a URL', async () => {
    const file = lab.path('daemon');
    const args = ['daemon', '--store', await lab.folder('store'), '--trusted-public-key', await fixtureKey(), ...ALONE];
    const { process: daemon } = await lab.service(args, { env: tellLoaded(file) });
    await daemon.stop();
    assert.deepEqual(await readLoaded(file), { ...NOTHING, webTorrent: true });
  });
});
