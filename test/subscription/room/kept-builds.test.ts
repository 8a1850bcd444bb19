import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import type { FetchedBuild } from '../../../src/fetch/fetch-build.ts';
import type { BuildDifference } from '../../../src/index/quorum.ts';
import { narHashOf } from '../../../src/nix/hash.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { keepBuilds, pruneBuilds, type KeepBuildsContext } from '../../../src/subscription/room/kept-builds.ts';
import type { SubscriptionState } from '../../../src/subscription/state/state.ts';
import { tempDir } from '../../store/store-fixture.ts';

const PATH = parseStorePath('/nix/store/ak1r35k6n7424jh8hk7axrj4l9x6zsrv-top');
const hashOf = (text: string): string => narHashOf(createHash('sha256').update(text).digest());
const differenceOf = (...nars: readonly string[]): BuildDifference => ({
  path: PATH,
  builds: nars.map((text, index) => ({ narHash: `sha256:${hashOf(text)}`, publishers: [`publisher ${index}`] })),
});

/** Keeps builds whose NARs come with these contents. */
async function keep(
  stateDir: string,
  difference: BuildDifference,
  sent: readonly (string | Error)[],
  signal = new AbortController().signal,
) {
  const warnings: unknown[] = [];
  const left = [...sent];
  const fetchBuild: KeepBuildsContext['fetchBuild'] = async ({ path, dir }): Promise<FetchedBuild> => {
    const text = left.shift() ?? '';
    if (text instanceof Error) throw text;
    await mkdir(dir);
    await writeFile(join(dir, 'file'), text);
    return { path, file: join(dir, 'file'), compression: 'none', narSize: text.length };
  };
  const [kept] = await keepBuilds([difference], {
    store: { stateDir },
    maxBytes: 1e6,
    fetchBuild,
    signal,
    onWarning: (warning) => warnings.push(warning),
  });
  return { nars: (kept?.builds ?? []).map(({ nar }) => nar), warnings };
}

test('a NAR is kept only if it has the NarHash of its publishers', async (t) => {
  const dir = await tempDir(t);
  const { nars, warnings } = await keep(dir, differenceOf('one', 'other'), ['one', 'a lie']);
  assert.equal(nars[1], undefined);
  assert.equal(warnings.length, 1);
  assert.equal(await readFile(nars[0] ?? '', 'utf8'), 'one');
  assert.deepEqual((await readdir(join(dir, 'different'))).length, 1);
});

test('neither a full disk nor an interruption is an error of the update', async (t) => {
  const dir = await tempDir(t);
  const full = await keep(dir, differenceOf('one', 'other'), [new NarswarmError('STORE_FULL', 'full'), 'other']);
  assert.deepEqual(
    full.nars.map((nar) => nar !== undefined),
    [false, true],
  );
  assert.equal(full.warnings.length, 1);
  const stopped = await keep(dir, differenceOf('one', 'other'), [], AbortSignal.abort());
  assert.deepEqual([stopped.nars, stopped.warnings], [[undefined, undefined], []]);
});

test('what no state names is removed after a week; what one names stays', async (t) => {
  const dir = await tempDir(t);
  const difference = differenceOf('one', 'other');
  const { nars } = await keep(dir, difference, ['one', 'other']);
  const [one = '', other = ''] = nars;
  const builds = difference.builds.map((build) => ({ ...build, nar: one }));
  const note = { kind: 'different-builds', differences: [{ ...difference, builds }], count: 1 };
  const states = [{ notes: ['a sentence of an earlier version', note] }] as unknown as SubscriptionState[];
  assert.deepEqual(await pruneBuilds({ stateDir: dir }, states, new Date()), []);
  const old = new Date(Date.now() - 8 * 86_400_000);
  for (const nar of [one, other]) await utimes(nar, old, old);
  assert.deepEqual(await pruneBuilds({ stateDir: dir }, states, new Date()), [other]);
  assert.deepEqual((await readdir(join(dir, 'different'))).length, 1);
  assert.deepEqual(await pruneBuilds({ stateDir: join(dir, 'none') }, states, new Date()), []);
});

test('the week begins again with each run that finds the difference', async (t) => {
  const dir = await tempDir(t);
  const difference = differenceOf('one', 'other');
  const { nars } = await keep(dir, difference, ['one', 'other']);
  const old = new Date(Date.now() - 8 * 86_400_000);
  for (const nar of nars) await utimes(nar ?? '', old, old);
  assert.deepEqual((await keep(dir, difference, [])).nars, nars);
  assert.deepEqual(await pruneBuilds({ stateDir: dir }, [], new Date()), []);
});
