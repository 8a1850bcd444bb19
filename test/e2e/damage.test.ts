/** `update`, `status` and `verify` agree on the held paths, whatever happens to the store in between. */
import assert from 'node:assert/strict';
import { readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos, type Run } from '../support/lab.ts';
import { Machine, machineWithCache } from '../support/update-lab.ts';

interface Paths {
  readonly root: NarInfo;
  readonly blob: NarInfo;
}

describe('a damaged store', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([30_000, 20_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const pathsOf = async (machine: Machine): Promise<Paths> => {
    const infos = [...(await readNarInfos(machine.store)).values()];
    const root = infos.find(({ storePath }) => storePath === made.root);
    const blob = infos.find(({ storePath }) => storePath.endsWith('-lab-blob-0'));
    assert.ok(root !== undefined && blob !== undefined);
    return { root, blob };
  };
  const verify = (machine: Machine, ...args: string[]): Promise<Run> =>
    lab.run(['verify', '--store', machine.store, ...args], { env: { NARSWARM_CONFIG: machine.config } });
  const narInfoOf = (machine: Machine, { storePath }: NarInfo): string =>
    join(machine.store, `${storePath.slice(11, 43)}.narinfo`);
  const catalogueOf = (machine: Machine): string => join(machine.store, 'narswarm', 'catalogue.jsonl');
  /** Overwrites a NAR with other bytes of the same size. */
  const replace = async (path: string): Promise<void> => {
    await writeFile(path, Buffer.alloc((await stat(path)).size, 'x'));
    await utimes(path, 1, 1);
  };

  const DAMAGE: Record<string, (machine: Machine, paths: Paths) => Promise<void>> = {
    'the NAR of the root is gone': (machine, { root }) => rm(join(machine.store, root.url)),
    'the narinfo of the root is gone': (machine, { root }) => rm(narInfoOf(machine, root)),
    'a narinfo is gone': (machine, { blob }) => rm(narInfoOf(machine, blob)),
    'a narinfo is torn': (machine, { blob }) => truncate(narInfoOf(machine, blob), 50),
    'a NAR is cut short': (machine, { blob }) => truncate(join(machine.store, blob.url), 100),
    'a NAR was replaced by one of the same size': (machine, { blob }) => replace(join(machine.store, blob.url)),
    'a NAR is gone, and its line of the catalogue torn': async (machine, { blob }) => {
      const text = await readFile(catalogueOf(machine), 'utf8');
      const kept = text.split('\n').filter((line) => !line.includes(blob.storePath));
      await writeFile(catalogueOf(machine), `${kept.join('\n')}\n{"storePath":"${blob.storePath}`);
      await rm(join(machine.store, blob.url));
    },
    'a NAR is gone, and the whole catalogue': async (machine, { root }) => {
      await rm(catalogueOf(machine));
      await rm(join(machine.store, root.url));
    },
    'a NAR is in quarantine': async (machine, { blob }) => {
      await replace(join(machine.store, blob.url));
      assert.equal((await verify(machine)).status, 7);
    },
    'a generation is half collected': async (machine, { root, blob }) => {
      await rm(narInfoOf(machine, root));
      await rm(join(machine.store, root.url));
      await rm(join(machine.store, blob.url));
    },
  };

  for (const [what, damage] of Object.entries(DAMAGE)) {
    test(`${what}: status and verify report it, and the next update repairs it`, async () => {
      const { machine } = await machineWithCache(lab, made);
      assert.equal((await machine.update()).status, 0);
      const paths = await pathsOf(machine);
      await damage(machine, paths);
      assertFailure(await machine.status(['--check']), 7, 'STORE_CORRUPT', /desktop: /);
      const status = await machine.statusOf('desktop');
      assert.equal(status['health'], 'stale');
      assert.equal((await verify(machine)).status, 7);
      assert.equal((await verify(machine)).status, 7, 'also once it was looked at');
      assertFailure(await machine.status(['--check']), 7, 'STORE_CORRUPT', /desktop: /);
      const update = await machine.update();
      assert.equal(update.status, 0, update.stderr);
      assert.equal((await machine.status(['--check'])).status, 0);
      assert.equal((await verify(machine)).status, 0);
      await assertSound(machine.store, made.publicKey);
    });
  }

  test('an update that cannot fetch lost files again is not complete', async () => {
    const { machine, cache } = await machineWithCache(lab, made, { import: true, to: `local?root=${lab.path('nix')}` });
    assert.equal((await machine.update()).status, 0);
    const { root, blob } = await pathsOf(machine);
    await rename(join(machine.store, blob.url), `${machine.store}/aside`);
    assertFailure(await machine.status(['--check']), 7, 'STORE_CORRUPT', /it was here, but no longer is/);
    cache.faults = [{ kind: 'status', status: 503 }];
    const offline = await machine.update();
    assert.equal(offline.status, 5, offline.stderr);
    assert.notEqual((await machine.status(['--check'])).status, 0);
    assert.equal((await verify(machine)).status, 7);
    assert.ok((await machine.state('desktop')).generations[0]?.roots.includes(root.storePath), 'nothing is given up');
    cache.faults = [];
    assert.equal((await machine.update()).status, 0);
    for (const run of [await machine.status(['--check']), await verify(machine)])
      assert.equal(run.status, 0, run.stderr);
    await assertSound(machine.store, made.publicKey);
  });

  test('verify --repair asks the subscription’s publisher and its peers', async () => {
    const publisher = await lab.publisher(made, ALONE);
    const flags = ['--no-upstream', '--trusted-public-key', made.publicKey, '--peer', publisher.peer];
    const machine = await Machine.of(lab, { desktop: { source: `${publisher.mirror}#lab` } }, flags);
    const first = await machine.update();
    assert.equal(first.status, 0, first.stderr);
    const { root, blob } = await pathsOf(machine);
    await rm(join(machine.store, root.url));
    await rm(narInfoOf(machine, blob));
    const repaired = await verify(machine, '--repair', ...flags, ...ALONE);
    assert.equal(repaired.status, 0, repaired.stderr + repaired.stdout);
    assert.equal((await machine.status(['--check'])).status, 0);
    await assertSound(machine.store, made.publicKey);
  });

  test('status shows when the hash map was confirmed, and that a publisher is silent for more than a night', async () => {
    const publisher = await lab.publisher(made, ALONE);
    const flags = ['--no-upstream', '--trusted-public-key', made.publicKey, '--peer', publisher.peer];
    const machine = await Machine.of(lab, { desktop: { source: `${publisher.mirror}#lab` } }, [
      ...flags,
      '--publisher-timeout',
      '2s',
    ]);
    assert.equal((await machine.update()).status, 0);
    const confirmed = String((await machine.statusOf('desktop'))['completeAsOf']);
    await publisher.process.stop('SIGKILL');
    const silent = await machine.update();
    assert.equal(silent.status, 0, silent.stderr);
    const tonight = await machine.statusOf('desktop');
    assert.deepEqual(
      [tonight['completeAsOf'], tonight['health'], tonight['silentSince']],
      [confirmed, 'complete', null],
    );
    assert.equal((await machine.status(['--check'])).status, 0);

    const state = await machine.state('desktop');
    const longAgo = new Date(Date.parse(confirmed) - 30 * 3_600_000).toISOString();
    await writeFile(machine.stateFile('desktop'), JSON.stringify({ ...state, completeAsOf: longAgo }));
    assertFailure(await machine.status(['--check']), 6, 'INDEX_UNREACHABLE', /its publisher has been silent since/);
    const later = await machine.statusOf('desktop');
    assert.deepEqual([later['health'], later['silentSince']], ['stale', longAgo]);
    const told = await lab.runPlain(['status', '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
    const when = String.raw`(?:yesterday|2 days ago, \S+) \d\d:\d\d`;
    assert.match(told.stdout, new RegExp(`^desktop: its publisher is silent; complete as of ${when} \\(generation 1`));
  });
});
