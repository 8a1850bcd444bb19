/** A daemon as a substituter on a network: neighbours as its sources, other machines as its clients. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { Lab, type CliProcess } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { DEAD_CACHE, LanUser, startHolder } from '../support/lan-user.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { NixClient } from '../support/nix-client.ts';
import { largestOf } from '../support/substituting.ts';

const LIMIT = { timeout: 180_000 };

suite('a substituter on a network', { concurrency: 2 }, () => {
  let lab: Lab;
  /** Signed by a key of that name, which neighbours share. */
  let shared: MadeClosure;
  let unshared: MadeClosure;

  before(async () => {
    ({ lab, made: shared } = await openLanLab([6_000_000, 60_000, 5_000], 'cache.nixos.org'));
    unshared = await lab.closure([60_000], 'private');
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine whose daemon serves Nix. */
  async function substituterOn(
    host: Host,
    {
      made = shared,
      cache = DEAD_CACHE,
      listen = '127.0.0.1',
    }: { made?: MadeClosure; cache?: string; listen?: string },
  ): Promise<{ readonly url: string; readonly daemon: CliProcess }> {
    const user = await LanUser.of(lab, host, { made, cache });
    const daemon = await user.daemon('--substituter-port', '0', '--substituter-listen', listen);
    const [url = ''] = (await daemon.event('ready'))['substituters'] as readonly string[];
    return { url, daemon };
  }

  async function nixOn(host: Host, url: string, made = shared): Promise<NixClient> {
    const { wrapper } = host;
    return NixClient.of(lab, { substituters: [url], publicKey: made.publicKey, wrapper });
  }

  async function assertRealises(nix: NixClient, made = shared): Promise<void> {
    const { status, stderr } = await nix.realise(made.root).ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(made.root);
  }

  test('gives Nix what a neighbour has, without any cache', LIMIT, async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    await startHolder(lab, lan.host('holder'), { made: shared });
    const host = lan.host('client');
    const { url } = await substituterOn(host, {});
    await assertRealises(await nixOn(host, url));
  });

  test('takes the rest from a cache if the neighbour loses its power in the middle of a NAR', LIMIT, async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const cache = stack.use(await startCacheOn(lan.host('cache', { upKbit: 20_000 }), shared.cacheDir));
    const holder = lan.host('holder', { upKbit: 20_000 });
    await startHolder(lab, holder, { made: shared });
    const host = lan.host('client');
    const { url } = await substituterOn(host, { cache: cache.url });
    const nix = await nixOn(host, url);
    await using run = nix.realise(shared.root);
    await run.receiving((await largestOf(shared)).givenBytes);
    holder.signal('SIGKILL');
    const { status, stderr } = await run.ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(shared.root);
  });

  test('gives another machine what is shared', LIMIT, async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const cache = stack.use(await startCacheOn(lan.host('cache'), shared.cacheDir));
    const host = lan.host('server');
    const { url } = await substituterOn(host, { cache: cache.url, listen: host.ipv4 });
    await assertRealises(await nixOn(lan.host('plain'), url));
  });

  test('gives another machine nothing of a private cache, neither before nor after it was fetched', LIMIT, async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const cache = stack.use(await startCacheOn(lan.host('cache'), unshared.cacheDir));
    const host = lan.host('server');
    const { url } = await substituterOn(host, { made: unshared, cache: cache.url, listen: '0.0.0.0' });
    const { port } = new URL(url);
    const other = lan.host('other');
    const { ownUrl } = await largestOf(unshared);
    const narInfo = `/${unshared.root.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;
    const statuses = (): string[] =>
      [narInfo, ownUrl].map((path) =>
        other.run('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', `http://${host.ipv4}:${port}${path}`),
      );
    assert.deepEqual(statuses(), ['404', '404']);
    await assertRealises(await nixOn(host, `http://127.0.0.1:${port}`, unshared), unshared);
    assert.deepEqual(statuses(), ['404', '404']);
  });
});
