import assert from 'node:assert/strict';
import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import { Progress } from '../../../src/fetch/report.ts';
import { fetchByContents } from '../../../src/fetch/download/by-contents.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { Lab, readNarInfos } from '../../support/lab.ts';

describe('NARs without FileHash and FileSize', () => {
  let lab: Lab;
  let cache: HttpCache;
  let http: HttpClient;
  let infos: NarInfo[];
  let cacheDir: string;

  before(async () => {
    lab = await Lab.open();
    cacheDir = await lab.fixtureCache();
    cache = lab.use(await startHttpCache(cacheDir));
    http = lab.use(new HttpClient({ retries: 0 }));
    infos = [...(await readNarInfos(cacheDir)).values()].map(({ fileHash: _hash, fileSize: _size, ...info }) => info);
  });
  after(() => lab[Symbol.asyncDispose]());

  const open = async () => {
    const store = await FileStore.open(await lab.folder('store'), { create: true });
    const session = lab.use(await PartialSession.open(store));
    const { signal } = new AbortController();
    const progress = new Progress();
    const upstreams = [parseUpstream(cache.url), parseUpstream(`${cache.url}/`)];
    cache.faults = [];
    cache.resetCounts();
    return {
      store,
      session,
      http,
      upstreamsOf: () => upstreams,
      givesWay: true,
      progress,
      tell: (event: FetchEvent) => progress.take(event),
      signal,
    };
  };
  const partialOf = (session: PartialSession, info: NarInfo): string =>
    session.path(`${storeHashOf(info.storePath)}.unsized`);
  const narsIn = (store: FileStore): Promise<string[]> => readdir(join(store.dir, 'nar'));

  test('a store that cannot be written ends the fetch at once, and is not blamed on an upstream', async () => {
    const context = await open();
    await mkdir(partialOf(context.session, infos[0]!));
    await assert.rejects(fetchByContents(infos, context), (error: unknown) => {
      assert.ok(error instanceof NarswarmError);
      assert.deepEqual([error.code, error.exitStatus], ['STORE_UNWRITABLE', 7]);
      return true;
    });
  });

  test('an interruption keeps complete NARs', async () => {
    const context = await open();
    const [slow, ...others] = infos;
    cache.faults = [{ match: new RegExp(slow!.url), kind: 'stall', afterBytes: 10 }];
    const stop = new AbortController();
    const running = fetchByContents(infos, { ...context, signal: stop.signal });
    while (context.progress.doneNars < others.length) await new Promise((resolve) => setImmediate(resolve));
    stop.abort(new NarswarmError('INTERRUPTED', 'enough'));
    const { completed, failures } = await running;
    assert.deepEqual(new Set(completed.keys()), new Set(others.map(({ storePath }) => storePath)));
    assert.equal(failures.size, 0);
    assert.equal((await narsIn(context.store)).length, others.length);
  });

  test('a NAR that no source has delays no other, and leaves no file behind', async () => {
    const context = await open();
    const [bad, ...others] = infos;
    const match = new RegExp(bad!.url);
    for (const fault of [{ kind: 'corrupt', afterBytes: 60 } as const, { kind: 'status', status: 404 } as const]) {
      cache.faults = [{ ...fault, match }];
      const { completed, failures } = await fetchByContents(infos, context);
      const failure = failures.get(bad!.storePath);
      assert.equal(failure?.code, 'NAR_UNAVAILABLE');
      assert.match(failure.message, new RegExp(bad!.storePath.slice(0, 43)));
      assert.deepEqual(
        [...completed.keys()].toSorted(),
        others.map((info) => info.storePath).toSorted((a, b) => (a < b ? -1 : 1)),
      );
      assert.equal((await narsIn(context.store)).length, others.length);
      assert.deepEqual(await readdir(context.session.dir), []);
    }
  });

  test('the NAR of another path is refused', async () => {
    const context = await open();
    const bySize = infos.toSorted((a, b) => a.narSize - b.narSize); // a longer file would be cut at NarSize
    const [other, one] = [bySize.at(0), bySize.at(-1)];
    const { url, compression } = other!;
    const { completed, failures } = await fetchByContents([{ ...one!, url, compression }], context);
    assert.equal(completed.size, 0);
    assert.match(failures.get(one!.storePath)?.message ?? '', /other contents than were signed/);
    assert.deepEqual(await narsIn(context.store), []);
  });

  test('a missing program is named, and no other upstream is asked', async () => {
    const context = await open();
    const path = process.env['PATH'];
    process.env['PATH'] = await lab.folder('no-programs');
    try {
      for (const [program, magic] of [
        ['xz', 'fd377a585a00'],
        ['bzip2', '425a6839'],
        ['lz4', '04224d18'],
      ] as const) {
        cache.resetCounts();
        const info = { ...infos[0]!, url: `nar/${program}`, compression: 'odd' }; // its bytes show it
        await writeFile(join(cacheDir, info.url), Buffer.from(magic, 'hex'));
        const failure = (await fetchByContents([info], context)).failures.get(info.storePath);
        assert.deepEqual([failure?.code, failure?.exitStatus], ['NIX_MISSING', 8]);
        assert.match(failure!.message, new RegExp(`there is no \`${program}\` in PATH.*: install ${program}$`));
        assert.equal(cache.requests.length, 1);
        await assert.rejects(access(partialOf(context.session, info)));
      }
    } finally {
      process.env['PATH'] = path;
    }
  });
});
