/** Realisations of single files, from caches that somebody has configured and from others. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { realisationIn } from '../../../src/fetch/walk/realisations.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { asAnnounced, parseUpstream } from '../../../src/http/upstream.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { startHttpCache } from '../../support/http-cache.ts';
import { Lab } from '../../support/lab.ts';
import { serve } from '../../support/odd-server.ts';
import { WrittenCache } from '../../support/written-cache.ts';

const LIMIT = { timeout: 180_000 };
const { signal } = new AbortController();

suite('the realisation in a file', () => {
  test('is asked of an announced cache without passwords, and leads to no other origin', LIMIT, async () => {
    await using lab = await Lab.open();
    const seen: (string | undefined)[] = [];
    await using other = await serve((request, response) => {
      seen.push(request.url);
      response.end();
    });
    await using cache = await serve(({ headers }, response) => {
      seen.push(headers.authorization);
      response.writeHead(302, { location: `${other.url}/elsewhere` }).end();
    });
    const { store, netrcFile } = await folders(lab);
    await using http = new HttpClient({ netrcFile });
    const upstreams = [asAnnounced(parseUpstream(cache.url))];
    const found = await realisationIn(FILE, { store, upstreams, http, keys: [], signal });
    assert.equal(found, undefined);
    assert.deepEqual(seen, [undefined]);
  });

  test('is not waited for if an announced cache sends it byte by byte', LIMIT, async () => {
    await using lab = await Lab.open();
    const { store, written, file, keys } = await folders(lab);
    const slow = lab.use(await startHttpCache(written.dir));
    slow.faults = [{ kind: 'slow', rateBytesPerSec: 1 }];
    await using http = new HttpClient();
    const near = asAnnounced(parseUpstream(slow.url));
    assert.equal(await realisationIn(file, { store, upstreams: [near], http, keys, signal }), undefined);
    assert.ok(await realisationIn(file, { store, upstreams: [parseUpstream(slow.url)], http, keys, signal }));
  });

  test('comes from the first cache that has it, whatever the others do', LIMIT, async () => {
    await using lab = await Lab.open();
    const { store, written, file, keys } = await folders(lab);
    await using silent = await serve(() => undefined);
    const cache = lab.use(await startHttpCache(written.dir));
    await using http = new HttpClient({ hastyStallTimeoutMs: 300_000 });
    const upstreams = [silent, cache].map(({ url }) => parseUpstream(url));
    assert.equal((await realisationIn(file, { store, upstreams, http, keys, signal }))?.file, file);
  });
});

const FILE = `realisations/sha256:${'0'.repeat(64)}!out.doi`;

async function folders(lab: Lab) {
  const written = await WrittenCache.create(await lab.folder('cache'), 'realisations-1');
  const file = await written.addRealisation(await written.add('made'));
  const netrcFile = join(await lab.folder('netrc'), 'netrc');
  await writeFile(netrcFile, 'default login me password pw');
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  return { store, written, file, netrcFile, keys: [parsePublicKey(written.publicKey)] };
}
