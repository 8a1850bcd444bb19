/** Fetches a single NAR. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { Candidates } from '../../src/fetch/candidates.ts';
import { fetchNar } from '../../src/fetch/fetch-nar.ts';
import type { FetchNarsContext } from '../../src/fetch/fetch-nars.ts';
import { upstreamSource } from '../../src/fetch/find-narinfo.ts';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { FIXTURE_ROOT, fixtureKey, Lab, readNarInfos } from '../support/lab.ts';

const LIMIT = { timeout: 20_000 };

suite('fetchNar', () => {
  /** Makes the parts of a fetch from one cache into an empty store. */
  async function scene(
    lab: Lab,
  ): Promise<{ store: FileStore; cache: HttpCache; context: FetchNarsContext; info: NarInfo }> {
    const dir = await lab.fixtureCache();
    const info = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath === FIXTURE_ROOT);
    assert.ok(info !== undefined);
    const cache = lab.use(await startHttpCache(dir));
    const store = await FileStore.open(await lab.folder('store'), { create: true });
    const http = lab.use(new HttpClient());
    const keys = [parsePublicKey(await fixtureKey())];
    const upstreams = [parseUpstream(cache.url)];
    const sources = upstreams.map((upstream) => upstreamSource(upstream, http, undefined, store.storeDir));
    const context: FetchNarsContext = {
      store,
      session: lab.use(await PartialSession.open(store)),
      network: undefined,
      http,
      upstreams,
      keys,
      candidates: new Candidates(sources, keys, new Map()),
      torrentOf: async () => undefined,
      tell: () => undefined,
      signal: AbortSignal.timeout(LIMIT.timeout / 2),
      extend: async (_hashes, known) => ({ closure: known, needed: undefined }),
    };
    return { store, cache, context, info };
  }
  test('puts the NAR of one narinfo into the store, and asks for no other', LIMIT, async () => {
    await using lab = await Lab.open();
    const { store, cache, context, info } = await scene(lab);
    const fetched = await fetchNar(info, context);
    assert.equal(fetched.fileHash, info.fileHash);
    assert.equal((await readdir(join(store.dir, 'nar'))).length, 1);
    const before = cache.requests.length;
    await fetchNar(info, context);
    assert.equal(cache.requests.length, before);
  });

  test('fails with the reason if nobody has it', LIMIT, async () => {
    await using lab = await Lab.open();
    const { cache, context, info } = await scene(lab);
    cache.faults = [{ match: /nar\//, kind: 'status', status: 404 }];
    await assert.rejects(fetchNar(info, context), { code: 'NAR_UNAVAILABLE' });
  });
});
