/** Subscriptions with missing paths: the other paths come, other subscriptions have their turn, and the report says why. */
import assert from 'node:assert/strict';
import { chmod, cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import type { HttpCache } from '../support/http-cache.ts';
import { assertFailure, assertSound, Lab, readNarInfos, requisites } from '../support/lab.ts';
import { machineWithCache, Machine, updated } from '../support/update-lab.ts';

const NOWHERE = `/nix/store/${'a'.repeat(32)}-nowhere`;

describe('updates that partly fail', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let infos: readonly NarInfo[];
  const named = (name: string): NarInfo => infos.find(({ storePath }) => storePath.endsWith(`-${name}`))!;
  const pathsOf = (...names: string[]): Set<string> =>
    new Set(names.map((name) => named(name).storePath.slice('/nix/store/'.length)));

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([40_000, 30_000, 20_000]);
    infos = [...(await readNarInfos(made.cacheDir)).values()];
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = async (source = made.root): Promise<{ machine: Machine; cache: HttpCache; dir: string }> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    return { ...(await machineWithCache(lab, made, { cacheDir: dir, source })), dir };
  };

  test('after a failure the other subscriptions have their turn; the first failure gives the exit status', async () => {
    const { machine, cache } = await scene();
    await machine.subscribe({
      first: { source: named('lab-0').storePath },
      list: { source: `${cache.url}/store-paths` },
      nowhere: { source: NOWHERE },
      last: { source: made.root },
    });
    const run = await machine.update();
    assertFailure(run, 5, 'HTTP_NOT_FOUND', /2 of 4 subscriptions not complete: list: .*; nowhere: .*/);
    const told = run.events.filter(({ event }) => event === 'subscription');
    assert.deepEqual(
      told.map(({ name, outcome, code = null, missingCount }) => [name, outcome, code, missingCount]),
      [
        ['first', 'complete', null, 0],
        ['list', 'failed', 'HTTP_NOT_FOUND', 0],
        ['nowhere', 'incomplete', 'NARINFO_MISSING', 1],
        ['last', 'complete', null, 0],
      ],
    );
    const { event: _, ...done } = run.event('done');
    assert.deepEqual(done, { subscriptions: 4, complete: 2 });
    assert.ok(
      run.events.some(({ event }) => event === 'collected'),
      'the rest of the run goes on',
    );
    const status = await machine.status();
    assert.deepEqual(
      status.events
        .filter(({ event }) => event === 'status')
        .map(({ name, health, generation }) => [name, health, generation]),
      [
        ['first', 'complete', 1],
        ['list', 'incomplete', null],
        ['nowhere', 'incomplete', 1],
        ['last', 'complete', 1],
      ],
    );
    const other = await machine.update(['nowhere', 'list']);
    assertFailure(other, 3, 'NARINFO_MISSING', /2 of 2 subscriptions not complete: nowhere: .*; list: /);
    const plain = await machine.lab.runPlain(['status', '--store', machine.store], {
      env: { NARSWARM_CONFIG: machine.config },
    });
    assert.match(plain.stdout, /^first: complete as of .*\n(?: .*\n)+list: failed, never complete so far\n/);
    assert.match(plain.stdout, /why +the server does not have the list/);
    assert.match(
      plain.stdout,
      new RegExp(`nowhere: incomplete, never complete so far\n(?: .*\n)* +missing +${NOWHERE}: no `),
    );
  });

  test('if the cache lacks a NAR, the rest comes, the state names it, and the next update fetches only that one', async () => {
    const { machine, cache, dir } = await scene();
    const lost = named('lab-blob-1');
    await rm(join(dir, lost.url));
    const run = await machine.update(['--max-size', '0']);
    assertFailure(
      run,
      5,
      'NAR_UNAVAILABLE',
      new RegExp(`1 of 1 subscription not complete: desktop: ${lost.storePath} is missing`),
    );
    const { nars, narInfos } = await assertSound(machine.store, made.publicKey);
    assert.equal(nars.length, 5);
    assert.deepEqual(new Set(narInfos), pathsOf('lab-0', 'lab-blob-0', 'lab-blob-2'));
    const state = await machine.state('desktop');
    assert.equal(state.lastRun?.outcome, 'incomplete');
    assert.deepEqual(
      state.missing.map(({ path }) => path),
      [lost.storePath],
    );
    assert.partialDeepStrictEqual(state.missing, [{ code: 'NAR_UNAVAILABLE', facts: { path: lost.storePath } }]);
    assert.partialDeepStrictEqual(updated(run)['missing'], state.missing);
    const { health, missingCount } = await machine.statusOf('desktop');
    assert.deepEqual([health, missingCount], ['incomplete', 1]);

    await cp(join(made.cacheDir, lost.url), join(dir, lost.url));
    cache.resetCounts();
    const next = await machine.update();
    assert.equal(next.status, 0, next.stderr);
    assert.deepEqual(narsAsked(cache), [`/${lost.url}`]);
    assert.deepEqual(
      [updated(next)['outcome'], updated(next)['generation'], updated(next)['nars']],
      ['complete', 1, 1],
    );
    assert.deepEqual((await machine.statusOf('desktop'))['missing'], []);
  });

  test('if a narinfo in the middle is missing, all paths that do not need it come', async () => {
    const { machine, cache, dir } = await scene();
    const lost = named('lab-0');
    const file = `${lost.storePath.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;
    await rm(join(dir, file));
    const run = await machine.update();
    assertFailure(run, 3, 'NARINFO_MISSING', /lab-0 is missing.*no neighbour, hash map or cache has a narinfo for/);
    // Nobody knows the paths behind a missing narinfo.
    assert.deepEqual(
      new Set((await assertSound(machine.store, made.publicKey)).narInfos),
      pathsOf('lab-blob-1', 'lab-blob-2'),
    );
    const { missing, lastRun } = await machine.state('desktop');
    assert.deepEqual([missing.map(({ path }) => path), lastRun?.outcome], [[lost.storePath], 'incomplete']);
    assert.partialDeepStrictEqual(missing, [
      { code: 'NARINFO_MISSING', facts: { referrer: named('lab-1').storePath } },
    ]);

    await cp(join(made.cacheDir, file), join(dir, file));
    cache.resetCounts();
    assert.equal((await machine.update()).status, 0);
    const absent = ['lab-0', 'lab-blob-0', 'lab-1', 'lab-2'].map((name) => `/${named(name).url}`);
    assert.deepEqual(new Set(narsAsked(cache)), new Set(absent));
  });

  test('untrusted narinfos give their exit status, unless something else is missing, too', async () => {
    const { cache } = await scene();
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, ['--scope', 'off', '--from', cache.url]);
    assertFailure(
      await machine.update(),
      4,
      'NARINFO_UNTRUSTED',
      /lab-2 is missing: it is signed only by keys not trusted/,
    );
    assert.equal((await machine.status(['--check'])).status, 4);
    const list = lab.path('list');
    const down = named('lab-0').storePath;
    await writeFile(list, `${made.root}\n${down}\n`);
    await machine.subscribe({ list: { source: list } });
    cache.faults = [{ kind: 'status', status: 400, match: new RegExp(down.slice(11, 43)) }];
    assertFailure(await machine.update(), 5, 'NAR_UNAVAILABLE', /is missing, and 1 more/);
    assert.equal((await machine.status(['--check'])).status, 5);
  });

  test('a dry run counts shared paths once, and of a failed subscription tells only the failure', async () => {
    const { machine } = await scene();
    await machine.subscribe({
      a: { source: made.root },
      b: { source: named('lab-0').storePath },
      c: { source: NOWHERE },
    });
    const run = await machine.update(['--dry-run']);
    const [all, part] = ['a', 'b'].map((name) => updated(run, name));
    assert.deepEqual([all?.['nars'], part?.['nars']], [6, 2]);
    const { event: _, ...done } = run.event('done');
    assert.deepEqual(done, { subscriptions: 3, complete: 2, nars: 6, bytes: all?.['bytes'], partialBytes: 0 });
    const plain = await lab.runPlain(machine.updateArgs(['--dry-run']), { env: { NARSWARM_CONFIG: machine.config } });
    assert.match(
      plain.stdout,
      new RegExp(
        `^a: 6 paths, (.*)\nb: 2 paths, 2 NARs to fetch \\(.*\\)\nc: ${NOWHERE} is missing: .*\nin all: \\1\n$`,
      ),
    );
  });

  test('a complete generation stays complete while a cache is out of order', async () => {
    const { machine, cache } = await scene();
    assert.equal((await machine.update()).status, 0);
    const { completeAsOf, generations } = await machine.state('desktop');
    await rm(join(machine.store, named('lab-blob-1').url));
    cache.faults = [{ kind: 'status', status: 404 }];
    const run = await machine.update(['--max-size', '0']);
    assertFailure(run, 5, 'NAR_UNAVAILABLE', /lab-blob-1 is missing/);
    const state = await machine.state('desktop');
    assert.deepEqual([state.completeAsOf, state.generations[0]?.number], [completeAsOf, 1]);
    assert.deepEqual([state.generations.length, state.generations[0]?.complete], [1, true]);
    assert.ok(state.generations[0]?.roots.includes(generations[0]?.roots[0] ?? made.root));
    assert.equal((await machine.statusOf('desktop'))['health'], 'stale');
    cache.faults = [];
    cache.resetCounts();
    assert.equal((await machine.update()).status, 0);
    assert.deepEqual(narsAsked(cache), [`/${named('lab-blob-1').url}`], 'the budget has taken nothing of it');
  });

  test('if a list is gone, its last generation stays', async () => {
    const { machine, cache, dir } = await scene();
    await writeFile(join(dir, 'store-paths'), `${made.root}\n`);
    await machine.subscribe({ list: { source: `${cache.url}/store-paths` } });
    assert.equal((await machine.update()).status, 0);
    const { generations, completeAsOf } = await machine.state('list');
    await rm(join(dir, 'store-paths'));
    assertFailure(await machine.update(['--max-size', '0']), 5, 'HTTP_NOT_FOUND', /does not have the list/);
    const state = await machine.state('list');
    assert.deepEqual([state.generations, state.completeAsOf], [generations, completeAsOf]);
    const { health, generation, lastRun } = await machine.statusOf('list');
    assert.deepEqual([health, generation, (lastRun as { outcome: string }).outcome], ['stale', 1, 'failed']);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 6);
  });

  test('if the hash map cannot be made, the subscriptions are complete and its failure is the exit status', async () => {
    const { machine } = await scene();
    await machine.subscribe({ desktop: { source: made.root, publish: true }, own: { source: NOWHERE, publish: true } });
    await mkdir(join(machine.store, 'narswarm'), { recursive: true });
    await writeFile(join(machine.store, 'narswarm/published'), 'in the way');
    const run = await machine.update(['desktop', '--publish', '--key', lab.path('key')]);
    assertFailure(run, 7, 'STORE_UNWRITABLE', /the hash map was not published: cannot write/);
    assert.equal(updated(run)['outcome'], 'complete');
    assert.ok(run.events.some(({ event }) => event === 'collected'));
    const both = await machine.update(['--publish', '--key', lab.path('key')]);
    assert.equal(both.status, 3);
    assert.match(String(both.event('error')['message']), /1 of 2 subscriptions not complete: own/);
    assert.match(String(both.event('warning')['message']), /the hash map was not published/);
    assert.ok(
      ![...run.events, ...both.events].some(({ event }) => event === 'built'),
      'nobody has said that all may be published',
    );
  });

  test('after a failed import, fetched paths are kept and not fetched again', async () => {
    const { machine, cache } = await scene();
    const blocked = await lab.folder('target');
    await cp(join(made.cacheDir, 'nix-cache-info'), join(blocked, 'nix')); // a file where Nix wants a folder
    await machine.subscribe({ desktop: { source: made.root, import: true, to: `local?root=${blocked}` } });
    const early = await machine.update();
    assert.equal(early.status, 8, early.stderr);

    // A target that answers and then takes nothing: it does not trust the key.
    const to = `local?root=${await lab.folder('target')}`;
    await machine.subscribe({ desktop: { source: made.root, import: true, to } });
    const env = { NIX_CONFIG: 'substituters =\ntrusted-public-keys =\nextra-trusted-public-keys =' };
    const flaky = await lab.folder('bin');
    await writeScript(
      join(flaky, 'nix'),
      'case " $* " in *" copy "*) echo "error: the target is on strike" >&2; exit 1 ;; esac',
    );
    const path = { PATH: `${flaky}:${process.env['PATH'] ?? ''}` };
    const flags = ['--max-size', '0', '--import-with', 'nix-copy'];
    const run = await machine.update(flags, { env: { ...env, ...path } });
    assertFailure(run, 8, 'IMPORT_FAILED', /desktop: nix copy from .* failed: the target is on strike/);
    const { generations, lastRun, completeAsOf } = await machine.state('desktop');
    assert.deepEqual([lastRun?.outcome, lastRun?.nars, completeAsOf], ['incomplete', 6, undefined]);
    assert.deepEqual([generations[0]?.roots, generations[0]?.complete], [[made.root], false]);
    assert.equal(
      (await assertSound(machine.store, made.publicKey)).narInfos.length,
      6,
      'the budget has taken nothing of it',
    );
    cache.resetCounts();
    const next = await machine.update();
    assert.equal(next.status, 0, next.stderr);
    assert.deepEqual(narsAsked(cache), []);
    assert.equal(requisites(to, made.root).length, 6);
  });
});

function narsAsked({ requests }: HttpCache): string[] {
  return requests.map(({ url }) => url).filter((url) => url.startsWith('/nar/'));
}

async function writeScript(file: string, line: string): Promise<void> {
  await writeFile(file, `#!/bin/sh\n${line}\nPATH=\${PATH#*:} exec nix "$@"\n`);
  await chmod(file, 0o755);
}
