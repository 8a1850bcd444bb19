/** Which questions the mirrors of hash maps get for patches. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { PATCH_EXTENSION } from '../../../src/delta/record.ts';
import type { ErrorCode } from '../../../src/errors.ts';
import type { NamedDelta } from '../../../src/fetch/sources/map-records.ts';
import { PatchMirrors } from '../../../src/fetch/download/patch-mirrors.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { fileHashOf, narHashOf } from '../../../src/nix/hash.ts';
import { patchUrl } from '../../../src/store/patch-list.ts';
import { narTorrent } from '../../../src/torrent/canonical.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { LEAF } from '../../nix/fixtures.ts';
import { tempDir } from '../../store/store-fixture.ts';

/** For the tests in which a mirror is silent. */
const PATIENCE_MS = 1_500;
const LONG_MS = 3_600_000;
const COUNT = 12;

interface Scene {
  readonly mirror: HttpCache;
  readonly deltas: readonly NamedDelta[];
  readonly mirrors: PatchMirrors;
  /** Fetches a patch from a mirror. @returns its bytes */
  readonly get: (delta: NamedDelta, options?: { signal?: AbortSignal; holdFor?: Promise<void> }) => Promise<Buffer>;
}

/** A mirror with patches of 100,000 bytes, which its hash map names. */
async function scene(t: TestContext, patienceMs = LONG_MS): Promise<Scene> {
  const dir = await tempDir(t);
  const mirror = await startHttpCache(dir);
  const http = new HttpClient({ backoffMs: 1 });
  t.after(async () => {
    await http.close();
    await mirror.stop();
  });
  await mkdir(join(dir, 'nar'));
  const makeDelta = async (): Promise<NamedDelta> => {
    const bytes = randomBytes(100_000);
    const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
    const pieces = Buffer.alloc(20);
    const torrent = narTorrent({ fileHash, extension: PATCH_EXTENSION, sizeBytes: bytes.length, pieces });
    await writeFile(join(dir, patchUrl(torrent)), bytes);
    const base = { baseName: `${LEAF}-base`, baseNarHash: narHashOf(Buffer.alloc(32)), baseNarSize: 100 };
    return { ...base, torrent, mirrors: [mirror.url] };
  };
  const deltas = await Promise.all(Array.from({ length: COUNT }, makeDelta));
  const mirrors = new PatchMirrors(deltas, http, patienceMs);
  const get: Scene['get'] = async ({ torrent }, { signal, holdFor } = {}) => {
    const chunks: Buffer[] = [];
    await mirrors.download(`${mirror.url}/${patchUrl(torrent)}`, {
      sizeBytes: torrent.sizeBytes,
      signal,
      sink: (bytes) => {
        chunks.push(Buffer.from(bytes));
        return holdFor;
      },
    });
    return Buffer.concat(chunks);
  };
  return { mirror, deltas, mirrors, get };
}

/** Returns the codes with which some downloads fail; undefined for those that do not. */
async function codesOf(downloads: Iterable<Promise<unknown>>): Promise<(ErrorCode | undefined)[]> {
  const settled = await Promise.allSettled(downloads);
  return settled.map((one) => (one.status === 'rejected' ? (one.reason as { code: ErrorCode }).code : undefined));
}

const all = <T>(value: T): T[] => Array.from({ length: COUNT }, () => value);

test('all patches are asked for at once after the first answer', async (t) => {
  const { mirror, deltas, get } = await scene(t);
  const { promise, resolve } = Promise.withResolvers<void>();
  mirror.faults = [{ kind: 'hold', times: 1, until: promise }];
  const downloads = deltas.map((delta) => get(delta));
  await until(() => mirror.requests.length > 0);
  assert.equal(mirror.requests.length, 1);
  resolve();
  for (const bytes of await Promise.all(downloads)) assert.equal(bytes.length, 100_000);
  assert.equal(mirror.requests.length, COUNT);
});

test('a mirror without any patch gets one question', async (t) => {
  const { mirror, deltas, get } = await scene(t);
  mirror.faults = [{ kind: 'status', status: 404 }];
  assert.deepEqual(await codesOf(deltas.map((delta) => get(delta))), all('NAR_UNAVAILABLE'));
  assert.equal(mirror.requests.length, 1);
});

test('a mirror that has given one is asked for all others, too', async (t) => {
  const { mirror, deltas, get } = await scene(t);
  const [first, second, ...others] = deltas;
  assert.ok(first !== undefined && second !== undefined);
  await get(first);
  mirror.faults = [{ kind: 'status', status: 404, times: 1 }];
  assert.deepEqual(await codesOf([get(second)]), ['NAR_UNAVAILABLE']);
  await Promise.all(others.map((delta) => get(delta)));
  assert.equal(mirror.requests.length, COUNT);
});

test('a mirror that does not answer is given up once, for all patches', async (t) => {
  const { mirror, deltas, get } = await scene(t, PATIENCE_MS);
  mirror.faults = [{ kind: 'stall-headers' }];
  assert.deepEqual(await codesOf(deltas.map((delta) => get(delta))), all('HTTP_STALLED'));
  assert.equal(mirror.requests.length, 1);
  assert.deepEqual(await codesOf([get(deltas[0]!)]), ['HTTP_STALLED']);
  assert.equal(mirror.requests.length, 1);
});

test('a mirror that falls silent is given up, too', async (t) => {
  const { mirror, deltas, get } = await scene(t, PATIENCE_MS);
  const [first, second] = deltas;
  assert.ok(first !== undefined && second !== undefined);
  mirror.faults = [{ kind: 'stall', afterBytes: 1000 }];
  assert.deepEqual(await codesOf([get(first)]), ['HTTP_STALLED']);
  assert.deepEqual(await codesOf([get(second)]), ['HTTP_STALLED']);
  assert.equal(mirror.requests.length, 1);
});

test('a mirror is not blamed for what our own limit holds back', async (t) => {
  const { deltas, get } = await scene(t, PATIENCE_MS);
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, 2 * PATIENCE_MS);
  assert.equal((await get(deltas[0]!, { holdFor: promise })).length, 100_000);
});

test('a question that another source made needless says nothing about the mirror', async (t) => {
  const { mirror, deltas, get } = await scene(t);
  mirror.faults = [{ kind: 'stall-headers', times: 1 }];
  const stop = new AbortController();
  const [first, ...others] = deltas;
  const needless = codesOf([get(first!, { signal: stop.signal })]);
  await until(() => mirror.requests.length > 0);
  const waiting = others.map((delta) => get(delta));
  stop.abort();
  await needless;
  assert.deepEqual(
    await codesOf(waiting),
    others.map(() => undefined),
  );
});

test('a mirror that has sent wrong patches is not asked again', async (t) => {
  const { mirror, mirrors, deltas, get } = await scene(t);
  for (let lies = 0; lies < 2; lies++) mirrors.order.noteLie(mirrors.upstreams[0]);
  assert.deepEqual(await codesOf([get(deltas[0]!)]), ['NAR_UNAVAILABLE']);
  assert.deepEqual(mirror.requests, []);
});

test('a mirror is asked neither for patches that its hash map does not name, nor for narinfos', async (t) => {
  const { mirror, deltas } = await scene(t);
  const http = new HttpClient();
  t.after(() => http.close());
  const mirrors = new PatchMirrors([{ ...deltas[0]!, mirrors: [] }], http, LONG_MS);
  assert.deepEqual(mirrors.upstreams, []);
  const url = `${mirror.url}/${patchUrl(deltas[0]!.torrent)}`;
  assert.deepEqual(await codesOf([mirrors.download(url, { sink: () => undefined })]), ['NAR_UNAVAILABLE']);
  assert.equal(await mirrors.getBytes(), undefined);
  assert.deepEqual(mirror.requests, []);
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 10));
}
