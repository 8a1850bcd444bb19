/** Caches of the configuration of Nix. */
import assert from 'node:assert/strict';
import { cp, readFile, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { Lab, readNarInfos, requisites, type Run } from '../support/lab.ts';

describe('caches of nix.conf', { concurrency: 4 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([20_000, 5_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const cacheOf = async (dir = made.cacheDir): Promise<HttpCache> => lab.use(await startHttpCache(dir));

  /** Fetches and imports with a configuration of Nix. Fails the test unless the whole closure is then in the target. */
  async function fetchWith(settings: readonly string[], ...flags: string[]): Promise<Run> {
    const to = `local?root=${await lab.folder('target')}`;
    const store = await lab.folder('store');
    const env = { NIX_CONFIG: settings.join('\n') };
    const run = await lab.run(['fetch', made.root, '--store', store, '--to', to, ...flags], { env });
    assert.equal(run.status, 0, `${run.stdout}${run.stderr}`);
    assert.equal(requisites(to, made.root).length, 4);
    return run;
  }
  /** A copy of the cache with other narinfos. */
  async function altered(change: (text: string) => string): Promise<string> {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    for (const { storePath } of (await readNarInfos(dir)).values()) {
      const file = join(dir, `${storePath.slice(11, 43)}.narinfo`);
      await writeFile(file, change(await readFile(file, 'utf8')));
    }
    return dir;
  }

  test('the cache with the lower Priority is asked, and one that is named twice is asked once', async () => {
    const far = await cacheOf();
    const near = await cacheOf();
    const substituters = `substituters = ${far.url} ${near.url}/?priority=-1 ${near.url}`;
    await fetchWith([substituters, `trusted-public-keys = ${made.publicKey}`]);
    assert.deepEqual(
      far.requests.map(({ url }) => url),
      ['/nix-cache-info'],
    );
    const urls = near.requests.map(({ url }) => url);
    assert.equal(new Set(urls).size, urls.length);
  });

  test('a password of netrc-file opens a cache, even one of --from', async () => {
    const inner = await cacheOf();
    const netrc = lab.path('netrc');
    await writeFile(netrc, 'machine 127.0.0.1 login me password pw');
    const expected = `Basic ${Buffer.from('me:pw').toString('base64')}`;
    const door = createServer((request, response) => {
      if (request.headers.authorization !== expected) return void response.writeHead(401).end();
      return void response.writeHead(307, { location: `${inner.url}${request.url}` }).end();
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => door.once('listening', resolve));
    const address = door.address();
    const url = typeof address === 'object' && address !== null ? `http://127.0.0.1:${address.port}` : '';
    try {
      const keys = `trusted-public-keys = ${made.publicKey}`;
      await fetchWith([`netrc-file = ${netrc}`, `substituters = ${url}`, keys]);
      await fetchWith([`netrc-file = ${netrc}`, 'substituters =', keys], '--from', url);
      const what = ['fetch', made.root, '--store', await lab.folder('store'), '--from', url];
      const refused = await lab.run(what, { env: { NIX_CONFIG: `netrc-file = ${netrc}.none\n${keys}` } });
      assert.equal(refused.status, 5, refused.stdout);
      assert.match(refused.stderr, /answered 401: the netrc file \S+none does not exist\n$/);
    } finally {
      door.closeAllConnections();
      door.close();
    }
  });

  test('folders are read in place, and a missing one is a warning', async () => {
    const cache = await cacheOf();
    const keys = `trusted-public-keys = ${made.publicKey}`;
    await fetchWith([`substituters = file://${made.cacheDir}`, keys]);
    await fetchWith(['substituters =', keys], '--from', made.cacheDir);
    const run = await fetchWith([`substituters = file:///nowhere ${cache.url}`, keys]);
    assert.match(String(run.event('warning')['message']), /file:\/\/\/nowhere has no nix-cache-info/);
  });

  test('unsigned paths are taken from a trusted cache, or if no signature is needed', async () => {
    const dir = await altered((text) => text.replace(/^Sig: .*\n/m, ''));
    const { url } = await cacheOf(dir);
    const none = 'trusted-public-keys =';
    await fetchWith([`substituters = ${url}?trusted=1`, none]);
    await fetchWith([`substituters = ${url}`, none, 'require-sigs = false']);
    const store = await lab.folder('store');
    const env = { NIX_CONFIG: `substituters = ${url}\nrequire-sigs = false` };
    // A named key means that signatures are to be checked.
    const named = ['fetch', made.root, '--store', store, '--no-copy', '--trusted-public-key', made.publicKey];
    assert.equal((await lab.run(named, { env })).status, 4);
  });

  test('signatures by keys of secret-key-files are trusted', async () => {
    const { url } = await cacheOf();
    const files = `secret-key-files = /nowhere ${made.secretKeyFile}`;
    await fetchWith([`substituters = ${url}`, 'trusted-public-keys =', files]);
  });

  test('NARs are fetched from where the narinfo says, even on another server or above the cache', async () => {
    const other = await cacheOf();
    for (const url of [`${other.url}/nar/`, '../nar/', '/nar/', 'x/../../nar/']) {
      const dir = await altered((text) => text.replace('URL: nar/', `URL: ${url}`));
      const parent = await lab.folder('site');
      await rename(dir, join(parent, 'cache'));
      await rename(join(parent, 'cache/nar'), join(parent, 'nar'));
      const site = await cacheOf(parent);
      await fetchWith([`trusted-public-keys = ${made.publicKey}`, `substituters = ${site.url}/cache`]);
    }
  });
});
