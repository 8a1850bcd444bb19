/** Imports over connections to the real Nix that are stopped, or whose Nix dies, in the middle of a NAR. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { physicalPath } from '../../src/nix/store-place.ts';
import { hangingProgram } from '../support/hanging-program.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, requisites, type CliProcess } from '../support/lab.ts';
import { processesOf } from '../support/process-group.ts';
import { until } from '../support/update-lab.ts';
import { WrittenCache } from '../support/written-cache.ts';

const SAYS = /^error: interrupted; run the same command again to continue$/m;
describe('an import over a connection to Nix', { concurrency: 3 }, () => {
  let lab: Lab;
  let written: WrittenCache;
  /** A path of 4 MB that refers to a small one. */
  let large: NarInfo;

  before(async () => {
    lab = await Lab.open();
    written = await WrittenCache.create(await lab.folder('written'), 'written-1');
    const { baseName } = await written.add('small');
    const contents = randomBytes(2_000_000).toString('hex');
    large = (await written.add('large', { contents, references: [baseName] })).info;
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = async (): Promise<{ store: string; to: string; args: string[] }> => {
    const cache = lab.use(await startHttpCache(written.dir));
    cache.faults = [{ kind: 'slow', match: new RegExp(basename(large.url)), rateBytesPerSec: 700_000 }];
    const store = await lab.folder('store');
    const to = `local?root=${await lab.folder('target')}`;
    const args = ['fetch', large.storePath, '--store', store, '--to', to, '--from', cache.url];
    return { store, to, args: [...args, '--trusted-public-key', written.publicKey, ...ALONE] };
  };
  /** Waits until Nix is in the middle of the large NAR. @returns its processes */
  const inTheMiddle = async (to: string, run: CliProcess): Promise<Awaited<ReturnType<typeof processesOf>>> => {
    const place = physicalPath(large.storePath, to);
    assert.ok(place);
    await until(async () => (statSync(place, { throwIfNoEntry: false })?.size ?? 0) >= 1_000_000, run);
    return (await processesOf(to)).filter(({ name }) => name === 'nix-daemon');
  };
  /** Fails unless the next run completes. */
  const assertGoesOn = async ({ store, to, args }: Awaited<ReturnType<typeof scene>>): Promise<void> => {
    const next = await lab.run(args);
    assert.equal(next.status, 0, next.stderr);
    assert.equal(requisites(to, large.storePath).length, 2);
    assert.deepEqual(await readdir(join(store, 'narswarm/import')), []);
  };

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    test(`${signal} in the middle of a NAR leaves no process, and the next run completes`, async () => {
      const at = await scene();
      const run = lab.start(at.args);
      assert.ok((await inTheMiddle(at.to, run)).length > 0);
      const end = await run.stop(signal);
      if (signal === 'SIGINT') assertFailure(end, 130, 'INTERRUPTED', SAYS);
      else while ((await processesOf(at.to)).length > 0) await sleep(50); // its input has ended
      assert.deepEqual(await processesOf(at.to), []);
      await assertGoesOn(at);
    });
  }

  test('SIGINT while Nix does not answer ends it', async () => {
    const at = await scene();
    const nix = await hangingProgram(lab, 'nix-daemon', '--stdio');
    const run = lab.start(at.args, { env: nix.env });
    await until(async () => (await nix.pid()) !== undefined, run);
    assertFailure(await run.stop('SIGINT'), 130, 'INTERRUPTED', SAYS);
    assert.deepEqual(await processesOf(at.to), []);
    await assertGoesOn(at);
  });

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`does without a word of it if Nix gets ${signal} in the middle of a NAR`, async () => {
      const at = await scene();
      const run = lab.start(at.args);
      for (const { pid } of await inTheMiddle(at.to, run)) process.kill(pid, signal);
      const { status, stderr } = await run.end();
      assert.equal(status, 0, stderr);
      assert.doesNotMatch(stderr, /warning|error/);
      assert.equal(requisites(at.to, large.storePath).length, 2);
      assert.deepEqual(await processesOf(at.to), []);
    });
  }
});
