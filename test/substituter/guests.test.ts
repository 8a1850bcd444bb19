/** Other machines as clients of the substituter. They get what is shared, and do not hear of anything else. */
import assert from 'node:assert/strict';
import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { Lab } from '../support/lab.ts';
import type { WrittenPath } from '../support/written-cache.ts';
import { entryFor } from '../store/store-fixture.ts';
import { narInfoUrl, narUrl, scene, type Scene } from './scene.ts';

const LIMIT = { timeout: 180_000 };
/** Headers of a client that is not local. */
const GUEST = { 'x-forwarded-for': '192.0.2.7' };

suite('other machines', () => {
  test('are those that a proxy on this machine asks for, too', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await filled(lab, { shares: false });
    for (const url of [narInfoUrl(made, made.leaf), narUrl(made, made.leaf)]) {
      assert.equal(await statusOf(url), 200);
      for (const [name, value] of [
        ['forwarded', 'for=192.0.2.7'],
        ['via', '1.1 proxy'],
        ['x-forwarded-for', '192.0.2.7'],
        ['x-forwarded-host', 'cache.example'],
        ['x-real-ip', '192.0.2.7'],
      ] as const)
        assert.equal(await statusOf(url, { [name]: value }), 404, name);
    }
  });

  test('do not get a private file that the narinfo of a shared path names', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const secret = await made.written.add('secret', { contents: 'private'.repeat(100) });
    const { url, fileHash, fileSize } = secret.info;
    assert.ok(fileHash !== undefined && fileSize !== undefined);
    await rm(join(made.cacheDir, `${secret.baseName.slice(0, 32)}.narinfo`));
    await rename(join(made.cacheDir, url), join(made.store.dir, url));
    const named = await made.written.add('named', { lie: () => ({ url, fileHash, fileSize }) });
    const wanted = narUrl(made, { ...named, info: secret.info });
    assert.equal(await statusOf(narInfoUrl(made, named), GUEST), 200);
    assert.deepEqual([await statusOf(wanted, GUEST), await statusOf(wanted, GUEST)], [404, 404]);
    assert.equal(await statusOf(wanted), 200, 'to the Nix of this machine, which checks it');
  });

  for (const shares of [true, false])
    test(`get the realisation of a path only if it is shared (${shares})`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await filled(lab, { shares });
      const file = await made.written.addRealisation(made.leaf);
      await cp(join(made.cacheDir, file), join(made.store.dir, file), { recursive: true });
      await made.cache.stop();
      const url = `${made.url}/${file}`;
      assert.deepEqual([await statusOf(url), await statusOf(url, GUEST)], [200, shares ? 200 : 404]);
    });

  test('get what this machine has added, and nothing else of a key that is not shared', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await filled(lab, { shares: false });
    const { store, offer, leaf, middle } = made;
    await (await Catalogue.open(store)).add([await entryFor(store, leaf.baseName.slice(0, 32), 'add')]);
    await offer.catalogue.refresh();
    const statuses = async (path: WrittenPath): Promise<number[]> => [
      await statusOf(narInfoUrl(made, path), GUEST),
      await statusOf(narUrl(made, path), GUEST),
    ];
    assert.deepEqual(await statuses(leaf), [200, 200]);
    assert.deepEqual(await statuses(middle), [404, 404]);
  });
});

/** Makes a substituter whose store has the closure. */
async function filled(lab: Lab, options: { readonly shares: boolean }): Promise<Scene> {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const made = await scene(lab, { ...options, lookingMs: Infinity, onEnded: resolve });
  await fetch(narInfoUrl(made, made.top));
  for (const { info } of [made.top, made.middle, made.leaf])
    while ((await made.store.statNar(info)) === undefined) await sleep(10);
  made.options.lookingMs = 0; // as if the last question was long ago
  await ended;
  made.options.lookingMs = Infinity;
  return made;
}

async function statusOf(url: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
  const answer = await fetch(url, { headers });
  await answer.arrayBuffer();
  return answer.status;
}
