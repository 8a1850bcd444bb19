/** An update on a network with neighbours begins no NAR before it knows all of them: the neighbours would begin the same ones. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { Lab, readNarInfos } from '../support/lab.ts';
import { LanUser } from '../support/lan-user.ts';
import { Lan, requireNamespaces } from '../support/namespaces.ts';

suite('the order of requests of an update', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    made = await lab.closure([30_000, 20_000, 10_000], 'cache.nixos.org');
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Returns what an update requests from the cache: narinfos and NARs, in their order. Two narinfos take a second. */
  async function requestsOf(...flags: readonly string[]): Promise<readonly ('narinfo' | 'nar')[]> {
    await using lan = Lan.open();
    await using cache = await startCacheOn(lan.host('cache'), made.cacheDir);
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const slow = infos
      .filter(({ storePath }) => /\.org-[12]$/.test(storePath))
      .map(({ storePath }) => storeHashOf(storePath));
    assert.equal(slow.length, 2);
    const match = new RegExp(`^/(${slow.join('|')})\\.narinfo`);
    await cache.setFaults([{ kind: 'slow', match, rateBytesPerSec: 500 }]);
    const user = await LanUser.of(lab, lan.host('machine'), { made, cache: cache.url });
    const subscribed = await user.run('subscribe', 'sys', made.root);
    assert.equal(subscribed.status, 0, subscribed.stderr);
    const run = await user.run('update', '--store', user.store, ...flags);
    assert.equal(run.status, 0, run.stderr);
    const urls = (await cache.requests()).map(({ url }) => url);
    return urls.flatMap((url) => (url.startsWith('/nar/') ? 'nar' : url.includes('.narinfo') ? 'narinfo' : []));
  }

  test('where neighbours may be, all narinfos come first', async () => {
    const requests = await requestsOf();
    assert.ok(requests.lastIndexOf('narinfo') < requests.indexOf('nar'), requests.join());
  });

  test('where none may be, NARs come meanwhile', async () => {
    const requests = await requestsOf('--no-lan');
    assert.ok(requests.lastIndexOf('narinfo') > requests.indexOf('nar'), requests.join());
  });
});
