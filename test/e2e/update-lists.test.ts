/** Subscriptions to lists of store paths, in a file and at an address. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readNarInfos } from '../support/lab.ts';
import { writeBinaryCache, type BinaryCache } from '../bench/binary-cache.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { startSite } from '../support/http-site.ts';
import { ALONE, assertFailure, assertSound, Lab } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

const COUNT = 1000;
const NOWHERE = `/nix/store/${'0'.repeat(32)}-in-no-cache`;

describe('lists of store paths', { concurrency: 2 }, () => {
  let lab: Lab;
  let cache: BinaryCache;
  let upstream: HttpCache;
  let flags: readonly string[];
  let paths: readonly string[];

  before(async () => {
    lab = await Lab.open();
    const shape = { name: 'small' as const, sizesBytes: Array.from({ length: COUNT }, (_, index) => 200 + index) };
    cache = await writeBinaryCache(shape, lab.path('cache'), lab.path('torrents'));
    upstream = lab.use(await startHttpCache(cache.dir));
    flags = ['--from', upstream.url, '--trusted-public-key', cache.publicKey, ...ALONE];
    paths = [...(await readNarInfos(cache.dir)).values()].map(({ storePath }) => storePath);
  });
  after(() => lab[Symbol.asyncDispose]());

  test('a list of a thousand paths is complete without the one that no cache has, with a note', async () => {
    const one = await Machine.make(lab, { flags });
    const list = join(await lab.folder('lists'), 'store-paths');
    await writeFile(list, [...paths, NOWHERE].join('\n'));
    await one.subscribe('channel', list);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], done['nars'], done['missingCount']], ['complete', COUNT, 0]);
    assert.deepEqual(done['notes'], [`1 of its paths is in no cache and was left out: ${NOWHERE}`]);
    assert.deepEqual([done['leftOut'], done['leftOutCount']], [[NOWHERE], 1]);
    assert.equal((await assertSound(one.store, cache.publicKey)).nars.length, COUNT);

    // Another generation: all of it is held.
    await writeFile(list, paths.join('\n'));
    const again = await one.updated();
    assert.deepEqual([again['generation'], again['nars'], again['notes']], [2, 0, []]);
    await rm(list);
    assertFailure(await one.update(), 3, 'NOT_FOUND', /there is no \S+store-paths/);
    const status = await one.status('channel');
    assert.deepEqual([status['health'], status['generation']], ['stale', 2]);
    assert.equal((await readdir(join(one.store, 'nar'))).length, COUNT);
  });

  test('if no cache has most paths of a list, the number is reported, with --quiet too', async () => {
    const one = await Machine.make(lab, { flags });
    const list = join(await lab.folder('lists'), 'store-paths');
    const nowhere = Array.from({ length: 300 }, (_, index) => NOWHERE.replace('0000', String(index).padStart(4, '0')));
    await writeFile(list, [...nowhere, ...paths.slice(0, 1)].join('\n'));
    await one.subscribe('channel', list);
    const done = await one.updated();
    assert.deepEqual([done['leftOutCount'], (done['leftOut'] as string[]).length], [300, 200]);
    const plain = await lab.runPlain(['update', '--quiet', ...flags], { env: { NARSWARM_CONFIG: one.configFile } });
    assert.equal(plain.status, 0, plain.stderr);
    assert.match(
      plain.stderr,
      /^warning: channel: 300 of its paths are in no cache and were left out: \S+, \S+, \S+, \S+, \S+, and 295 more\n$/,
    );
  });

  test('the source of a list is shown once', async () => {
    const one = await Machine.make(lab, { flags });
    const list = join(await lab.folder('lists'), 'store-paths');
    await writeFile(list, paths.slice(0, 1).join());
    await one.subscribe('channel', list);
    const plain = await lab.runPlain(['update', ...flags], { env: { NARSWARM_CONFIG: one.configFile } });
    const told = plain.stderr.split('\n').filter((line) => line.includes(list));
    assert.deepEqual(told, [`channel: ${list}`]);
  });

  test('a compressed list at a URL is downloaded once', async () => {
    const one = await Machine.make(lab, { flags });
    const few = paths.slice(-3);
    const { stdout } = spawnSync('xz', ['-c'], { input: few.join('\n') });
    await using site = await startSite(({ headers }, response) => {
      if (headers['if-none-match'] === '"1"') response.writeHead(304).end();
      else response.writeHead(200, { etag: '"1"' }).end(stdout);
    });
    await one.subscribe('channel', `${site.url}/store-paths.xz`);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], Number(done['nars']) >= few.length], ['complete', true]);
    upstream.resetCounts();
    const again = await one.updated();
    assert.deepEqual([again['generation'], again['nars']], [1, 0]);
    assert.equal(site.requests.at(-1)?.headers['if-none-match'], '"1"');
  });

  test('a list of which no cache has anything is not complete', async () => {
    const one = await Machine.make(lab, { flags });
    const list = join(await lab.folder('lists'), 'store-paths');
    await writeFile(list, NOWHERE);
    await one.subscribe('channel', list);
    assertFailure(await one.update(), 3, 'NARINFO_MISSING', /no neighbour, hash map or cache has a narinfo/);
    assert.equal((await one.status('channel'))['health'], 'incomplete');
  });
});
