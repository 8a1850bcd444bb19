/** `update --ready` and `ready = true`: what a rebuild without a network would lack comes at night, and stays. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { collectGarbageOf, isValidIn } from '../support/collect-garbage.ts';
import { assertFailure, type Lab } from '../support/lab.ts';
import type { ModelPaths } from '../support/model-flake.ts';
import { openModelLab, ReadyHost } from '../support/ready-host.ts';

describe('updates of what is to be ready', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let paths: ModelPaths;

  before(async () => {
    ({ lab, made, paths } = await openModelLab());
  });
  after(() => lab[Symbol.asyncDispose]());

  const newHost = async (...flags: readonly string[]): Promise<ReadyHost> => {
    const host = await ReadyHost.make(lab, made);
    await host.machine.subscribe('system', host.system, ...flags);
    return host;
  };
  /** Changes the one file, with everything switched off. */
  const rebuildOffline = async (host: ReadyHost): Promise<void> => {
    await host.goOffline();
    assert.equal((await host.ready(host.system)).status, 0);
    await writeFile(host.model.configuration, 'host = boat\n');
    const built = await host.rebuild();
    assert.equal(built.failed, false, built.stderr);
  };

  test('after it, and after a garbage collection, one changed file is rebuilt with every upstream off', async () => {
    const host = await newHost('--import', '--ready');
    const dry = await host.machine.updated('--dry-run');
    assert.deepEqual([dry['outcome'], dry['nars']], ['dry-run', 3]);
    const done = await host.machine.updated();
    assert.deepEqual([done['outcome'], done['nars']], ['complete', 3]);
    assert.match(String(done['notes']), /^no cache has \S+-system: the inputs of its build are used instead$/);
    const again = await host.machine.updated();
    assert.deepEqual([again['outcome'], again['generation'], again['nars']], ['complete', 1, 0]);
    await collectGarbageOf(lab, host.nixStore);
    await rebuildOffline(host);
  });

  test('--ready does so for one run; Nix downloads a source that no cache has', async () => {
    const host = await newHost('--import', '--sources');
    const done = await host.machine.updated('--ready');
    assert.equal(done['outcome'], 'complete');
    assert.ok(isValidIn(host.nixStore, paths.lost));
    await collectGarbageOf(lab, host.nixStore);
    assert.ok(isValidIn(host.nixStore, paths.lost), 'it has a root');
    assert.equal((await host.ready(host.system, '--sources')).status, 0);
    await rebuildOffline(host);
  });

  test('a source that nobody has makes the update incomplete, in Nix’s words', async () => {
    const host = await newHost('--import', '--sources', '--ready');
    await host.model.site[Symbol.asyncDispose]();
    const run = await host.machine.update();
    assert.equal(run.status, 8, run.stdout + run.stderr);
    assert.match(run.stderr, /\S+-lost\.tar is missing: nix failed: /);
    assert.ok(isValidIn(host.nixStore, paths.tool), 'the rest is here');
  });

  test('needs an import into the store of this machine, and a derivation', async () => {
    const host = await newHost();
    assertFailure(
      await host.machine.update(['system', '--ready']),
      2,
      'USAGE',
      /--ready needs import = true of system/,
    );
    assertFailure(
      await host.machine.run(['subscribe', 'other', host.system, '--ready']),
      2,
      'USAGE',
      /--ready needs --import, and no --to/,
    );
    await host.machine.subscribe('path', paths.program, '--import', '--ready');
    const run = await host.machine.update(['path']);
    assert.deepEqual([run.status, run.event('subscription')['outcome']], [0, 'complete']);
    assert.match(
      String(run.event('subscription')['notes']),
      /does not have its derivation, so what a rebuild needs is unknown/,
    );
  });
});
