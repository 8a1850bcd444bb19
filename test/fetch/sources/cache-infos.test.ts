import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { orderUpstreams } from '../../../src/fetch/sources/cache-infos.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { serve } from '../../support/odd-server.ts';
import { factsOf, type Warning } from '../../../src/warning.ts';

describe('the order of caches', { timeout: 180_000 }, () => {
  let folder = '';
  let caches: Record<'far' | 'near' | 'silent' | 'other' | 'bare', HttpCache>;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'narswarm-order-'));
    const start = async (name: string, info?: string): Promise<HttpCache> => {
      await mkdir(join(folder, name));
      if (info !== undefined) await writeFile(join(folder, name, 'nix-cache-info'), info);
      return startHttpCache(join(folder, name));
    };
    caches = {
      far: await start('far', 'StoreDir: /nix/store\nPriority: 40\n'),
      near: await start('near', 'StoreDir: /nix/store\nPriority: 10\n'),
      silent: await start('silent', 'StoreDir: /nix/store\nPriority: 1\n'),
      other: await start('other', 'StoreDir: /other/store\nPriority: 1\n'),
      bare: await start('bare'),
    };
    caches.silent.faults = [{ kind: 'stall-headers' }];
  });
  after(async () => {
    for (const cache of Object.values(caches)) await cache.stop();
    await rm(folder, { recursive: true });
  });

  /** Returns the names of caches in the order of requests, and the warnings. */
  async function order(
    texts: readonly string[],
    store: FileStore,
    nowMs = Date.now(),
  ): Promise<{ names: string[]; warnings: Warning[] }> {
    await using client = new HttpClient();
    const warnings: Warning[] = [];
    const ordered = await orderUpstreams(
      texts.map((text) => parseUpstream(text)),
      {
        store,
        http: client,
        signal: new AbortController().signal,
        onWarning: (warning) => void warnings.push(warning),
        now: () => nowMs,
      },
    );
    const nameOf = (url: string): string =>
      Object.entries(caches).find(([, cache]) => url.startsWith(cache.url))?.[0] ?? url;
    return { names: ordered.map(({ url }) => nameOf(url)), warnings };
  }
  const freshStore = async (name: string): Promise<FileStore> =>
    FileStore.open(join(folder, `store-${name}`), { create: true, storeDir: '/nix/store' });

  it('is by priority, lower first, and that of the URL counts before that of nix-cache-info', async () => {
    const store = await freshStore('priority');
    const { far, near } = caches;
    assert.deepEqual((await order([far.url, near.url], store)).names, ['near', 'far']);
    assert.deepEqual((await order([`${near.url}?priority=50`, far.url], store)).names, ['far', 'near']);
    assert.deepEqual((await order([far.url, `${near.url}?priority=40`], store)).names, ['far', 'near']);
  });

  it('is requested once a week, and in the background after a day', async () => {
    const store = await freshStore('memory');
    const { far, near } = caches;
    const asked = async (nowMs: number): Promise<number> => {
      far.resetCounts();
      assert.deepEqual((await order([far.url, near.url], store, nowMs)).names, ['near', 'far']);
      return far.requests.length;
    };
    const day = 24 * 3_600_000;
    assert.equal(await asked(0), 1);
    assert.equal(await asked(day / 2), 0);
    const file = join(store.stateDir, 'caches.json');
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.doesNotMatch(await readFile(file, 'utf8'), /127\.0\.0\.1/);
    await writeFile(file, 'damaged');
    assert.equal(await asked(day / 2), 1);
    assert.equal(await asked(8 * day), 1);
  });

  it('puts silent caches last, with a warning, and does not wait for them', async () => {
    const store = await freshStore('unknown');
    const { far, near, silent, bare } = caches;
    const { names, warnings } = await order([silent.url, bare.url, far.url, near.url], store);
    assert.deepEqual(names, ['near', 'far', 'silent', 'bare']);
    assert.ok(warnings.some(({ kind }) => kind === 'no-cache-info'));
    await using broken = await serve((_, response) => response.end('<html>log in</html>'));
    const refused = await order([broken.url.replace('//', '//me:s3cret@'), near.url], store);
    assert.equal(refused.names[0], 'near');
    const [asked] = refused.warnings;
    assert.ok(asked?.kind === 'asked-last');
    assert.match(asked.error.message, /^not the nix-cache-info/);
    assert.doesNotMatch(JSON.stringify(refused.warnings.map(factsOf)), /s3cret/);
  });

  it('does not warn if the remembered order is valid and the run ends before the answer', async () => {
    const store = await freshStore('remembered');
    const { far, near } = caches;
    await order([far.url, near.url], store, 0);
    far.faults = [{ kind: 'stall-headers' }];
    try {
      const { names, warnings } = await order([far.url, near.url], store, 2 * 24 * 3_600_000);
      assert.deepEqual(names, ['near', 'far']);
      await setImmediate(); // the client is closed by now, and has ended the request
      assert.deepEqual(warnings, []);
    } finally {
      far.faults = [];
    }
  });

  it('leaves out caches of another store directory, and names both', async () => {
    const { names, warnings } = await order([caches.other.url, caches.near.url], await freshStore('other'));
    assert.deepEqual(names, ['near']);
    assert.partialDeepStrictEqual(warnings, [{ kind: 'other-store-dir', theirs: '/other/store', ours: '/nix/store' }]);
  });

  it('accepts folders, and names a missing one', async () => {
    const store = await freshStore('folders');
    const near = join(folder, 'near');
    const { names, warnings } = await order(['/nowhere', caches.far.url, near], store);
    assert.deepEqual(names, [`file://${near}`, 'far', 'file:///nowhere']);
    const absent: Warning = { kind: 'no-cache-info', cache: 'file:///nowhere', isLocal: true };
    assert.deepEqual(warnings, [absent]);
    assert.deepEqual((await order(['/nowhere'], store)).warnings, [absent]);
  });
});
