/** Caches that have the same NARs in other files, some of which are gone while their narinfos remain. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { runFetch, type RunFetchResult } from '../../../src/fetch/run-fetch.ts';
import { asFileHash } from '../../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../../src/nix/narinfo.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import { startHttpCache } from '../../support/http-cache.ts';
import { assertSound, FIXTURE_ROOT, fixtureKey, Lab, readNarInfos } from '../../support/lab.ts';

const LIMIT = { timeout: 180_000 };

/** Writes the fixture's narinfos, each with another file, and no NARs. */
async function cacheWithout(lab: Lab, file: (info: NarInfo) => Partial<NarInfo>): Promise<string> {
  const dir = await lab.fixtureCache();
  for (const [hash, info] of await readNarInfos(dir))
    await writeFile(join(dir, `${hash}.narinfo`), formatNarInfo({ ...info, ...file(info) }));
  await rm(join(dir, 'nar'), { recursive: true });
  return dir;
}

async function fetchFrom(lab: Lab, storeDir: string, caches: readonly string[]): Promise<RunFetchResult> {
  const served = await Promise.all(caches.map(async (dir) => lab.use(await startHttpCache(dir))));
  return runFetch({
    roots: [FIXTURE_ROOT],
    publishers: [],
    upstreams: served.map(({ url }) => parseUpstream(url)),
    keys: [parsePublicKey(await fixtureKey())],
    trustedPublicKeys: [],
    copy: false,
    storeDir,
    network: undefined,
    seedForMs: 0,
    publisherTimeoutMs: 1_000,
    signal: AbortSignal.timeout(LIMIT.timeout / 2),
    onWarning: () => undefined,
  });
}

const same = (): Partial<NarInfo> => ({});
/** Describes the uncompressed NAR. */
const plain = ({ narHash, narSize }: NarInfo): Partial<NarInfo> => ({
  url: `nar/${narHash}.nar`,
  compression: 'none',
  fileHash: asFileHash(narHash),
  fileSize: narSize,
});
/** Describes a file that no cache has. */
const other = ({ narHash }: NarInfo): Partial<NarInfo> => ({
  url: `nar/${narHash}.nar.zst`,
  compression: 'zstd',
  fileHash: asFileHash('0'.repeat(20) + narHash.slice(20)),
});

test('two caches that each lost their own file are not asked in turn for ever', LIMIT, async () => {
  await using lab = await Lab.open();
  const caches = [await cacheWithout(lab, same), await cacheWithout(lab, plain)];
  await assert.rejects(fetchFrom(lab, await lab.folder('store'), caches), { code: 'NAR_UNAVAILABLE' });
});

test('a third cache gives a third file, and the narinfo then names that one', LIMIT, async () => {
  await using lab = await Lab.open();
  const caches = [await cacheWithout(lab, plain), await cacheWithout(lab, other), await lab.fixtureCache()];
  const store = await lab.folder('store');
  await fetchFrom(lab, store, caches);
  await assertSound(store, await fixtureKey());
});
