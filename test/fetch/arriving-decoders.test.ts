import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ArrivingDecoders, type ArrivingNar } from '../../src/fetch/arriving-decoders.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { XzDecoders } from '../../src/store/xz-decoders.ts';
import { tempDir } from '../store/store-fixture.ts';

const NAR_BYTES = 1_200_000;
const contents = randomBytes(NAR_BYTES);
const xz = spawnSync('xz', ['-c', '-0'], { input: contents, maxBuffer: 1e9 }).stdout;
const fileHash = fileHashOf(createHash('sha256').update(xz).digest());

interface Scene {
  readonly decoders: XzDecoders;
  readonly arriving: ArrivingDecoders;
  /** Begins a NAR. */
  readonly begin: (name: string, place?: number) => Promise<ArrivingNar>;
  /** Resolves once no processor is busy. */
  readonly idle: () => Promise<void>;
}

async function scene(t: TestContext, maxBytes: number, part = 1): Promise<Scene> {
  const dir = await tempDir(t);
  const decoders = new XzDecoders(maxBytes, new AbortController().signal);
  const arriving = new ArrivingDecoders(decoders, part, () => arriving.run());
  t.after(() => arriving[Symbol.asyncDispose]());
  return {
    decoders,
    arriving,
    begin: async (name, place = 0) => {
      const partial = await PartialNar.open(join(dir, `${name}.partial`), { sizeBytes: xz.length, fileHash });
      t.after(() => partial.close());
      const storePath = parseStorePath(`/nix/store/${'0'.repeat(32)}-${name}`);
      const nar = { storePath, partial, to: join(dir, name), narSize: NAR_BYTES, place };
      arriving.add(nar);
      return nar;
    },
    idle: async () => {
      while (decoders.isBusy) await turn();
    },
  };
}

test('decodes NARs at their own pace, and hands them over with their room', async (t) => {
  const { arriving, decoders, begin, idle } = await scene(t, NAR_BYTES);
  const { partial, storePath, to } = await begin('one');
  assert.equal(arriving.take(storePath), undefined, 'it has not begun');
  arriving.add({ storePath, partial, to, narSize: NAR_BYTES, place: 0 });
  await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
  await idle();
  assert.equal(arriving.has(storePath), true);
  await partial.write(600_000, [xz.subarray(600_000)], 'upstream');
  const decoder = arriving.take(storePath);
  assert.equal(await decoder?.finish(fileHash), true);
  assert.deepEqual(await readFile(to), contents);
  assert.equal(decoders.hasRoom(1), false);
});

test('begins no NAR without room for it', async (t) => {
  for (const [maxBytes, part] of [
    [NAR_BYTES - 1, 1],
    [NAR_BYTES * 2 - 1, 0.5],
  ] as const) {
    const { arriving, begin, idle } = await scene(t, maxBytes, part);
    const { partial, storePath } = await begin('one');
    await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
    await idle();
    assert.equal(arriving.has(storePath), false);
  }
});

test('gives back the room of NARs that do not arrive, and of those that begin again', async (t) => {
  const { arriving, decoders, begin, idle } = await scene(t, NAR_BYTES);
  const { partial, storePath } = await begin('one');
  await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
  await idle();
  assert.equal(decoders.hasRoom(1), false);
  await begin('one');
  assert.equal(arriving.has(storePath), false);
  assert.equal(decoders.hasRoom(NAR_BYTES), true);
  arriving.run();
  await idle();
  await arriving.endOthers(new Set());
  assert.equal(decoders.hasRoom(NAR_BYTES), true);
});

test('keeps the NARs that have arrived when no others will', async (t) => {
  const { arriving, begin, idle } = await scene(t, 2 * NAR_BYTES);
  const [one, two] = [await begin('one'), await begin('two')];
  for (const { partial } of [one, two]) await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
  await idle();
  await arriving.endOthers(new Set([one.storePath]));
  assert.deepEqual([arriving.has(one.storePath), arriving.has(two.storePath)], [true, false]);
});

test('decodes first what is imported first', async (t) => {
  const { arriving, begin, idle } = await scene(t, NAR_BYTES);
  const [late, early] = [await begin('late', 0.9), await begin('early', 0.1)];
  for (const { partial } of [late, early]) partial.follow(() => undefined); // both have work at the same time
  for (const { partial } of [late, early]) await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
  arriving.run();
  await idle();
  assert.deepEqual([arriving.has(late.storePath), arriving.has(early.storePath)], [false, true]);
});

test('has at most eight processes', async (t) => {
  const { arriving, begin, idle } = await scene(t, Infinity);
  const nars = await Promise.all(Array.from({ length: 9 }, (_, index) => begin(`nar-${index}`)));
  for (const { partial } of nars) await partial.write(0, [xz.subarray(0, 600_000)], 'upstream');
  await idle();
  assert.equal(nars.filter(({ storePath }) => arriving.has(storePath)).length, 8);
});
