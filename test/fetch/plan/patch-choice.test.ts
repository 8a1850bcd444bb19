import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { PATCH_EXTENSION, type Delta } from '../../../src/delta/record.ts';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { lineRateOf } from '../../../src/fetch/plan/line-rate.ts';
import { choosePatches, USUAL_LINE_RATE } from '../../../src/fetch/plan/patch-choice.ts';
import { fileHashOf, narHashOf } from '../../../src/nix/hash.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { baseNameOf } from '../../../src/nix/store-path.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { narTorrent } from '../../../src/torrent/canonical.ts';
import { emptyStore } from '../../store/store-fixture.ts';
import { addPath } from '../../store/synthetic-store.ts';

const MB = 1_000_000;

describe('the choice of patches', () => {
  /** A NAR of 100 MB whose file has 25 MB, and a patch of 1 MB whose base is in the file store. */
  const sample = async (t: TestContext): Promise<{ store: FileStore; base: NarInfo; job: NarJob; delta: Delta }> => {
    const store = await emptyStore(t);
    const base = await addPath(store, 'base');
    const info = { ...(await addPath(store, 'app')), narSize: 100 * MB };
    const fileHash = fileHashOf(Buffer.alloc(32));
    const job: NarJob = {
      fileHash,
      sizeBytes: 25 * MB,
      extension: 'xz',
      info,
      storePaths: [info.storePath],
      torrent: undefined,
    };
    const pieces = Buffer.alloc(80);
    const torrent = narTorrent({ fileHash, extension: PATCH_EXTENSION, sizeBytes: MB, pieces });
    const delta = {
      baseName: baseNameOf(base.storePath),
      baseNarHash: base.narHash,
      baseNarSize: base.narSize,
      torrent,
    };
    return { store, base, job, delta };
  };
  const count = async (
    { store, job, delta }: { readonly store: FileStore; readonly job: NarJob; readonly delta: Delta },
    lineRate = 10 * MB,
  ): Promise<number> =>
    (
      await choosePatches([job], {
        store,
        target: undefined,
        lineRate,
        deltasOf: async () => [{ ...delta, mirrors: [] }],
      })
    ).size;

  test('a patch is taken where the line is the limit, not where the processor would be', async (t) => {
    const given = await sample(t);
    assert.equal(await count(given, 10 * MB), 1);
    assert.equal(await count(given, 100 * MB), 0);
  });

  test('a base that is not here, or has other contents, is none', async (t) => {
    const given = await sample(t);
    const { delta } = given;
    const absent = { ...delta, baseName: 'ak1r35k6n7424jh8hk7axrj4l9x6zsrv-other' };
    assert.equal(await count({ ...given, delta: absent }), 0);
    assert.equal(await count({ ...given, delta: { ...delta, baseNarHash: narHashOf(Buffer.alloc(32)) } }), 0);
  });

  test('a patch that is larger than the file, and a file that two NARs claim, are left alone', async (t) => {
    const given = await sample(t);
    assert.equal(await count({ ...given, job: { ...given.job, sizeBytes: MB } }), 0);
    assert.equal(await count({ ...given, job: { ...given.job, isDisputed: true } }), 0);
  });
});

test('the rate of the line is the best of today and yesterday', async (t) => {
  const store = await emptyStore(t);
  const now = new Date('2026-05-04T12:00:00Z');
  assert.equal(await lineRateOf(store, now), USUAL_LINE_RATE);
  const line = (at: string, bytes: number): string =>
    `\n${JSON.stringify({ at, by: 'a', from: { caches: bytes, cohort: bytes }, nars: 1, sent: 0 })}\n`;
  const folder = join(store.stateDir, 'traffic');
  await mkdir(folder);
  const days = { '2026-05-02': 900 * MB, '2026-05-03': 3 * MB, '2026-05-04': 2 * MB };
  for (const [day, bytes] of Object.entries(days))
    await writeFile(join(folder, `${day}.jsonl`), line(`${day}T10:00:00.000Z`, bytes));
  assert.equal(await lineRateOf(store, now), 3 * MB);
});
