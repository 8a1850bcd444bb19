/**
 * Two machines of one network that need the same long NAR. The second one begins while the first one gets it from a
 * cache behind a slow line. Then the first one is killed, sleeps, or gives wrong bytes. Judged by who has sent what.
 */
import assert from 'node:assert/strict';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { assertSound, Lab, narBytesOf, type CliProcess } from '../support/lab.ts';
import { LanUser } from '../support/lan-user.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan } from '../support/namespaces.ts';

const LINE_KBIT = 4_000;
/** While the second machine starts: on a busy one, that takes longer than the whole NAR over the other line. */
const STARTING_KBIT = 400;
const LOOK_EVERY_MS = 20;

suite('a long NAR that two neighbours need at the same time', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let bytes: number;

  before(async () => {
    ({ lab, made, total: bytes } = await openLanLab([7_000_000], 'cache.nixos.org'));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Starts the first machine, and the second one when a part of the NAR has reached the first. */
  async function pair(stack: AsyncDisposableStack, meanwhile?: (first: LanUser) => Promise<void>) {
    const lan = stack.use(Lan.open());
    const site = lan.host('cache', { upKbit: LINE_KBIT });
    const cache = stack.use(await startCacheOn(site, made.cacheDir));
    const options = { made, cache: cache.url };
    const first = await LanUser.of(lab, lan.host('first'), options);
    const second = await LanUser.of(lab, lan.host('second'), options);
    const firstFetch = stack.use(first.startFetch('--seed-for', '60s'));
    while ((await arrivedAt(first)) < 0.15 * bytes) await sleep(LOOK_EVERY_MS);
    await meanwhile?.(first);
    site.setRate({ upKbit: STARTING_KBIT });
    const secondFetch = stack.use(second.startFetch('--seed-for', '60s'));
    await secondFetch.event('plan');
    site.setRate({ upKbit: LINE_KBIT });
    return { first, second, firstFetch, secondFetch, served: () => cache.narBytes() };
  }

  /** Returns the file in which the long NAR arrives, if it has been begun. */
  async function partialOf({ store }: LanUser): Promise<string | undefined> {
    const parts = join(store, 'narswarm', 'partial');
    const names = await readdir(parts, { recursive: true }).catch(() => []);
    for (const name of names) {
      const file = await stat(join(parts, name)).catch(() => undefined);
      if (file?.isFile() === true && file.size > 0) return join(parts, name);
    }
    return undefined;
  }

  /** Returns the bytes of the long NAR so far, which may be complete. */
  async function arrivedAt(user: LanUser): Promise<number> {
    const path = await partialOf(user);
    const found = path === undefined ? undefined : await stat(path).catch(() => undefined);
    return found?.size ?? (await narBytesOf(user.store).catch(() => 0));
  }

  /** Waits for the end. @returns bytes by kind of source */
  async function done(process: CliProcess, { store }: LanUser): Promise<{ peers: number; upstream: number }> {
    const event = await process.event('done');
    await assertSound(store, made.publicKey);
    assert.equal(await narBytesOf(store), bytes);
    return event['bytes'] as { peers: number; upstream: number };
  }

  test('it leaves the cache once: the second machine gets it from the first as it arrives', async () => {
    await using stack = new AsyncDisposableStack();
    const { first, second, firstFetch, secondFetch, served } = await pair(stack);
    while ((await arrivedAt(second)) < 0.4 * bytes) await sleep(LOOK_EVERY_MS);
    assert.ok((await arrivedAt(first)) < 0.9 * bytes, 'the first machine has not got all of it');
    await Promise.all([done(firstFetch, first), done(secondFetch, second)]);
    const sent = await served();
    assert.ok(sent <= 1.25 * bytes, `${sent} of ${bytes} bytes from the cache`);
  });

  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    test(`the second continues from the cache with the bytes that it has, after ${signal} of the first`, async () => {
      await using stack = new AsyncDisposableStack();
      const { first, second, firstFetch, secondFetch } = await pair(stack);
      while ((await arrivedAt(second)) < 0.4 * bytes) await sleep(LOOK_EVERY_MS);
      process.kill(firstFetch.pid, signal);
      const { peers, upstream } = await done(secondFetch, second);
      assert.ok(peers + upstream <= 1.05 * bytes, `${peers} + ${upstream} of ${bytes} bytes`);
      if (signal === 'SIGKILL') return;
      process.kill(firstFetch.pid, 'SIGCONT');
      await done(firstFetch, first);
    });
  }

  test('the second gets the right bytes from the cache if the first gives wrong ones', async () => {
    await using stack = new AsyncDisposableStack();
    const { second, secondFetch } = await pair(stack, async (user) => {
      await using file = await open((await partialOf(user)) ?? assert.fail(), 'r+');
      await file.write(Buffer.alloc(9, 'wrong'), 0, 9, 200);
    });
    const { upstream } = await done(secondFetch, second);
    assert.ok(upstream > 0.9 * bytes, `${upstream} of ${bytes} bytes from the cache`);
  });
});
