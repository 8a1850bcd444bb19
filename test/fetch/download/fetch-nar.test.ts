/** Fetches a single NAR. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { Candidates } from '../../../src/fetch/walk/candidates.ts';
import { fetchNar } from '../../../src/fetch/download/fetch-nar.ts';
import type { FetchNarsContext } from '../../../src/fetch/download/fetch-nars.ts';
import { upstreamSource } from '../../../src/fetch/sources/narinfo-sources.ts';
import { UpstreamOrder } from '../../../src/fetch/scheduler/upstream-order.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { fileHashOf } from '../../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../../src/nix/narinfo.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { FIXTURE_ROOT, fixtureKey, Lab, readNarInfos } from '../../support/lab.ts';

const LIMIT = { timeout: 180_000 };

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
      order: new UpstreamOrder(upstreams),
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

  test(
    'a cache whose narinfos name files with other contents is asked last for the rest of the run',
    LIMIT,
    async () => {
      await using lab = await Lab.open();
      const { store, cache, context } = await scene(lab);
      const dir = await lab.folder('liar');
      await mkdir(join(dir, 'nar'));
      const lies: NarInfo[] = [];
      for (const info of (await readNarInfos(await lab.fixtureCache())).values()) {
        const junk = randomBytes(info.narSize);
        const fileHash = fileHashOf(createHash('sha256').update(junk).digest());
        const lie = { ...info, url: `nar/${fileHash}.nar`, compression: 'none', fileHash, fileSize: junk.length };
        await writeFile(join(dir, lie.url), junk);
        await writeFile(join(dir, `${storeHashOf(info.storePath)}.narinfo`), formatNarInfo(lie));
        lies.push(lie);
      }
      const liar = lab.use(await startHttpCache(dir));
      const upstreams = [parseUpstream(liar.url), ...context.upstreams];
      const sources = upstreams.map((one) => upstreamSource(one, context.http, undefined, store.storeDir));
      const origins = new Map(lies.map(({ storePath }) => [storeHashOf(storePath), sources[0]!]));
      const run: FetchNarsContext = {
        ...context,
        upstreams,
        order: new UpstreamOrder(upstreams),
        candidates: new Candidates(sources, context.keys, origins),
        contents: 'small',
      };
      assert.ok(lies.length > 2);
      for (const lie of lies) await fetchNar(lie, run);
      const bodies = ({ requests }: HttpCache): number =>
        requests.filter(({ url, status }) => url.startsWith('/nar/') && status === 200).length;
      assert.equal(bodies(liar), 2, 'as many as its lies');
      assert.equal(bodies(cache), lies.length);
    },
  );

  test('fails with the reason if nobody has it', LIMIT, async () => {
    await using lab = await Lab.open();
    const { cache, context, info } = await scene(lab);
    cache.faults = [{ match: /nar\//, kind: 'status', status: 404 }];
    await assert.rejects(fetchNar(info, context), { code: 'NAR_UNAVAILABLE' });
  });
});
