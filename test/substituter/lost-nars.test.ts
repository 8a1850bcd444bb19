/** Narinfos of NARs that the store had, or that an upstream had: none may be given whose NAR nobody can give. */
import assert from 'node:assert/strict';
import { appendFile, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileBytes } from '../../src/substituter/file-bytes.ts';
import { Lab } from '../support/lab.ts';
import type { WrittenPath } from '../support/written-cache.ts';
import { narInfoUrl, narUrl, scene, type Scene } from './scene.ts';

const LIMIT = { timeout: 180_000 };

/** How a NAR file of the store is lost. */
const LOSSES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  'is removed by hand': (path) => rm(path),
  'has a flipped bit': async (path) => {
    const bytes = await readFile(path);
    bytes[9]! ^= 1;
    await writeFile(path, bytes);
    await utimes(path, 1_000, 1_000);
  },
  'is cut short': async (path) => writeFile(path, (await readFile(path)).subarray(0, -1)),
};

suite('a substituter whose NAR', () => {
  for (const [what, lose] of Object.entries(LOSSES)) {
    test(`${what} tells what its upstream tells, and fetches the NAR again`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await filled(lab);
      await lose(fileOf(made, made.leaf));
      assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 200);
      const nar = await fetch(narUrl(made, made.leaf));
      assert.ok(Buffer.from(await nar.arrayBuffer()).equals(made.leaf.file));
      assert.equal(made.cache.requests.filter(({ url }) => url === `/${made.leaf.info.url}`).length, 1);
    });

    test(`${what} tells nobody of it while no upstream answers`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await filled(lab);
      await made.cache.stop();
      await lose(fileOf(made, made.leaf));
      for (const headers of [{}, { 'user-agent': 'narswarm' }])
        for (const method of ['HEAD', 'GET'])
          assert.equal((await fetch(narInfoUrl(made, made.leaf), { method, headers })).status, 404);
      assert.equal((await fetch(narUrl(made, made.leaf))).status, 404);
      assert.equal((await fetch(narInfoUrl(made, made.top))).status, 200);
    });
  }

  test('an upstream has lost asks it again what it has', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { lookingMs: Infinity });
    made.cache.faults = [{ kind: 'status', status: 404, match: /^\/nar\// }];
    assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 200);
    assert.equal((await fetch(narUrl(made, made.leaf))).status, 404);
    made.cache.faults = [{ kind: 'status', status: 404 }];
    assert.equal((await fetch(narInfoUrl(made, made.leaf))).status, 404);
  });

  test('an upstream had a while ago asks it again, too', LIMIT, async () => {
    await using lab = await Lab.open();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const made = await scene(lab, { lookingMs: Infinity, onEnded: resolve });
    assert.equal((await fetch(narInfoUrl(made, made.leaf), { method: 'HEAD' })).status, 200);
    made.options.lookingMs = 0; // as if the last question was long ago
    await ended;
    made.options.lookingMs = Infinity;
    await made.cache.stop();
    assert.equal((await fetch(narInfoUrl(made, made.leaf), { method: 'HEAD' })).status, 404);
  });

  test('changes while it is sent breaks off, before a changed byte is sent', LIMIT, async () => {
    await using lab = await Lab.open();
    const path = `${await lab.folder()}/nar`;
    await writeFile(path, Buffer.alloc(1_000_000));
    const chunks = fileBytes(path);
    assert.equal((await chunks.next()).done, false);
    await sleep(2); // its time is looked at in whole milliseconds
    await appendFile(path, 'more');
    await assert.rejects(chunks.next(), /has changed/);
    await assert.rejects(fileBytes(path, undefined, undefined, 1_000).next(), /has changed/);
  });
});

/** Makes a substituter whose store has the closure, and that has stopped to ask its upstream. */
async function filled(lab: Lab): Promise<Scene> {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const made = await scene(lab, { lookingMs: Infinity, onEnded: resolve });
  await fetch(narInfoUrl(made, made.top));
  while ((await Promise.all([made.top, made.middle, made.leaf].map((one) => isFile(made, one)))).includes(false))
    await sleep(10);
  made.options.lookingMs = 0; // as if the last question was long ago
  await ended;
  made.options.lookingMs = Infinity;
  made.cache.resetCounts();
  return made;
}

function fileOf({ store }: Scene, { info }: WrittenPath): string {
  return store.narPath(info);
}

async function isFile({ store }: Scene, { info }: WrittenPath): Promise<boolean> {
  return (await store.statNar(info)) !== undefined;
}
