/** The questions of a substituter to its caches, and what follows if no cache gives a useful answer. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseUpstream } from '../../src/http/upstream.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { Lab } from '../support/lab.ts';
import { narInfoUrl, narUrl, scene } from './scene.ts';

const LIMIT = { timeout: 60_000 };

suite('the caches behind a substituter', () => {
  test('are asked in the order of their priorities, as Nix asks them', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const other = lab.use(await startHttpCache(made.cacheDir));
    made.options.sources = async () => ({
      near: [],
      upstreams: [parseUpstream(`${made.cache.url}?priority=40`), parseUpstream(`${other.url}?priority=30`)],
      publishers: [],
    });
    assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 200);
    const narInfos = ({ requests }: typeof other): number =>
      requests.filter(({ url }) => url.endsWith('.narinfo')).length;
    assert.deepEqual([narInfos(made.cache), narInfos(other)], [0, 1]);
  });

  for (const status of [401, 403, 407, 429, 500, 502, 503])
    test(`answer ${status} for a narinfo, and Nix gets a 404`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await scene(lab);
      made.cache.faults = [{ kind: 'status', match: /narinfo$/, status }];
      for (const method of ['GET', 'HEAD'])
        assert.equal((await fetch(narInfoUrl(made, made.leaf), { method })).status, 404);
    });

  test('never answer, and Nix gets a 404 while they are still silent', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    made.cache.faults = [{ kind: 'stall-headers', match: /narinfo$/ }];
    assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 404);
    const [asked, ...more] = made.cache.requests.filter(({ url }) => url.endsWith('.narinfo'));
    assert.equal(asked?.status, 0, 'it is not answered yet');
    assert.deepEqual(more, []);
  });

  for (const range of [undefined, 'bytes=5-9'])
    test(`are silent about a NAR (${range}), and Nix gets a 404 before they answer`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await scene(lab, { stillMs: 50 });
      const { promise: until, resolve: answer } = Promise.withResolvers<void>();
      made.cache.faults = [{ kind: 'hold', match: /^\/nar\//, until }];
      const url = narUrl(made, made.leaf);
      assert.equal((await fetch(url, range === undefined ? {} : { headers: { range } })).status, 404);
      answer();
      while ((await made.store.statNar(made.leaf.info)) === undefined) await sleep(10);
      assert.equal((await fetch(url)).status, 200);
      assert.equal(made.cache.requests.filter(({ url: asked }) => asked.startsWith('/nar/')).length, 1);
    });

  test('do not even say what caches they are, and Nix gets a 404', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const other = lab.use(await startHttpCache(made.cacheDir));
    for (const cache of [made.cache, other]) cache.faults = [{ kind: 'stall-headers' }];
    made.options.sources = async () => ({
      near: [],
      upstreams: [made.cache, other].map(({ url }) => parseUpstream(url)),
      publishers: [],
    });
    assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 404);
  });
});
