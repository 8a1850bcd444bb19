/** The real Nix takes closures through a daemon. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { ALONE, assertSound, Lab } from '../support/lab.ts';
import { inNamespace } from '../support/namespace.ts';
import { NixClient } from '../support/nix-client.ts';
import {
  cacheAfterDaemon,
  largestOf,
  type CachedFile,
  narRequests,
  startSubstitution,
} from '../support/substituting.ts';

const LARGE = 6_000_000;
const LIMIT = { timeout: 180_000 };

suite('a daemon as the first substituter', () => {
  let lab: Lab;
  let made: MadeClosure;
  let large: CachedFile;

  before(async () => {
    lab = await Lab.open();
    made = await cacheAfterDaemon(lab, [LARGE, 60_000, 5_000, 20_000]);
    large = await largestOf(made);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Makes an empty store hold the closure. */
  async function assertRealises(nix: NixClient): Promise<void> {
    const { status, stderr } = await nix.realise(made.root).ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(made.root);
  }

  test('asks its cache once for each NAR, and the next cache of Nix for none', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    await assertRealises(await one.nix());
    assert.equal(narRequests(one.second).size, 0);
    const counts = narRequests(one.upstream);
    assert.equal(counts.size, 8);
    assert.ok(
      [...counts.values()].every((count) => count === 1),
      JSON.stringify([...counts]),
    );
    await one.daemon.stop();
    assert.equal((await assertSound(one.store, made.publicKey)).nars.length, 8);
  });

  test('notes what only Nix has asked for, until somebody fetches it', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    await assertRealises(await one.nix());
    await one.daemon.stop();
    const store = await FileStore.open(one.store, { create: false });
    const askedBy = async (): Promise<string[]> =>
      Array.from((await Catalogue.open(store)).entries(), (entry) => entry.askedBy);
    assert.deepEqual(
      await askedBy(),
      Array.from({ length: 8 }, () => 'substituter'),
    );
    const fetch = ['fetch', made.root, '--store', one.store, '--no-copy', '--no-upstream'];
    const { status, stderr } = await lab.run([...fetch, '--trusted-public-key', made.publicKey, ...ALONE]);
    assert.equal(status, 0, stderr);
    assert.deepEqual(
      await askedBy(),
      Array.from({ length: 8 }, () => 'fetch'),
    );
  });

  test('removes what only Nix has asked for if it takes more than a tenth of the free space', LIMIT, async () => {
    const store = await lab.folder('small-disk');
    const mount = 'mount -t tmpfs -o size=30m tmpfs "$0" && exec "$@"';
    await using one = await startSubstitution(lab, made, {
      store,
      wrapper: [...inNamespace('-m'), 'sh', '-c', mount, store],
    });
    const narInfo = `${one.url}/${made.root.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;
    // narswarm itself is told only of what is here.
    const isHere = async (): Promise<boolean> =>
      (await fetch(narInfo, { headers: { 'user-agent': 'narswarm' } })).status === 200;
    // As long as it is not here, each question keeps the fetch going. Afterwards nobody asks, so it ends.
    do {
      assert.equal((await fetch(narInfo)).status, 200);
      await sleep(100);
    } while (!(await isHere()));
    while (await isHere()) await sleep(100);
    assert.equal(narRequests(one.upstream).get(large.url), 1);
  });

  test('gives several Nixes at once what it fetches once', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    const nixes = await Promise.all(Array.from({ length: 4 }, () => one.nix()));
    await Promise.all(nixes.map(assertRealises));
    assert.equal(narRequests(one.second).size, 0);
    const counts = narRequests(one.upstream);
    assert.ok(
      [...counts.values()].every((count) => count === 1),
      JSON.stringify([...counts]),
    );
  });

  test('holds the closure for the next Nix, without any cache', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    await assertRealises(await one.nix());
    await one.upstream.stop();
    await one.second.stop();
    await assertRealises(await NixClient.of(lab, { substituters: [one.url], publicKey: made.publicKey }));
  });

  test('gives everything to nix copy', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    const nix = await NixClient.of(lab, { substituters: [], publicKey: made.publicKey });
    const copied = await nix.run('nix', 'copy', '--from', one.url, made.root).ended;
    assert.equal(copied.status, 0, copied.stderr);
    await nix.assertHas(made.root);
  });

  test('fetches a NAR again that is gone, for a Nix that remembers its narinfo', LIMIT, async () => {
    const store = await lab.folder('store');
    const first = await startSubstitution(lab, made, { store });
    await assertRealises(await first.nix());
    const nix = await NixClient.of(lab, { substituters: [first.url], publicKey: made.publicKey });
    const known = await nix.run('nix', 'path-info', '--recursive', '--store', first.url, made.root).ended;
    assert.equal(known.status, 0, known.stderr);
    await first[Symbol.asyncDispose]();
    for (const name of await readdir(store))
      if (name === 'nar' || name.endsWith('.narinfo')) await rm(join(store, name), { recursive: true });
    await using again = await startSubstitution(lab, made, { store, port: new URL(first.url).port });
    await assertRealises(nix);
    assert.ok(again.upstream.requests.some(({ url }) => url === large.url));
  });

  test('serves fifty clients at once', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    one.upstream.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 6_000_000 }];
    const sizes = await Promise.all(
      Array.from(
        { length: 50 },
        async () => (await (await fetch(`${one.url}${large.ownUrl}`)).arrayBuffer()).byteLength,
      ),
    );
    assert.ok(sizes.every((size) => size === large.sizeBytes));
    assert.equal(narRequests(one.upstream).get(large.url), 1);
  });

  test('does not wait for a client that reads nothing', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    one.upstream.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 6_000_000 }];
    const { promise: answered, resolve } = Promise.withResolvers<void>();
    const silent = get(`${one.url}${large.ownUrl}`, (response) => {
      response.pause();
      resolve();
    });
    silent.on('error', () => undefined);
    await answered;
    await assertRealises(await one.nix());
    assert.equal(narRequests(one.upstream).get(large.url), 1);
    silent.destroy();
  });

  test('gives nothing to a client that goes away, and the rest to the next', LIMIT, async () => {
    await using one = await startSubstitution(lab, made);
    one.upstream.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 2_000_000 }];
    const nix = await one.nix();
    await using run = nix.realise(made.root);
    await run.receiving(large.givenBytes);
    await run[Symbol.asyncDispose]();
    await assertRealises(nix);
    assert.equal(narRequests(one.upstream).get(large.url), 1);
    assert.equal(narRequests(one.second).size, 0);
  });
});
