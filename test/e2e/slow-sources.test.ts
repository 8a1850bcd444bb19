/** While bytes come slowly, a fetch and its sender wait: neither keeps a processor busy. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, type CliProcess } from '../support/lab.ts';
import { ProcessorMeter } from '../support/processor-meter.ts';

/** At 10 kB/s, the closure takes two minutes. A fetch tells its progress every ten seconds. */
const SIZES = [400_000, 300_000, ...Array.from({ length: 20 }, () => 25_000)];
/** Part of a processor. It is a hundredth on an idle machine, and all of it in a loop that never waits. */
const AT_MOST = 0.3;

suite('processor time over a slow line', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(SIZES);
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = async (flags: readonly string[]): Promise<CliProcess> => {
    const where = ['--store', await lab.folder('store'), '--trusted-public-key', made.publicKey, '--no-copy', ...ALONE];
    return lab.start(['fetch', made.root, ...where, ...flags]);
  };

  /** Measures processes of a fetch between two lines of its progress, while bytes come. */
  async function assertIdle(fetching: CliProcess, pids: readonly number[]): Promise<void> {
    const bytes = (index: number): number => Number(fetching.events.filter(isProgress)[index]?.['bytes']);
    const first = await fetching.event('progress');
    const meters = pids.map((pid) => new ProcessorMeter(pid));
    const beganAtMs = performance.now();
    await fetching.event('progress', (event) => event !== first);
    const spentS = meters.map((meter) => meter.seconds);
    const seconds = (performance.now() - beganAtMs) / 1_000;
    for (const meter of meters) meter[Symbol.dispose]();
    assert.ok(bytes(1) > bytes(0), JSON.stringify(fetching.events.filter(isProgress)));
    for (const spent of spentS) assert.ok(spent < seconds * AT_MOST, `${spent} s in ${seconds} s`);
    await fetching.stop();
  }

  test('of a member that sends slowly, and of the fetch', async () => {
    const limit = ['--max-upload-rate', '10kB/s'];
    const { process: seeder, mirror } = await lab.publisher(made, [...ALONE, ...limit]);
    const fetching = await fetch(['--publisher', mirror, '--no-upstream']);
    await assertIdle(fetching, [fetching.pid, seeder.pid]);
    await seeder.stop();
  });

  test('of a fetch from a slow cache', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    cache.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 800 }];
    const fetching = await fetch(['--from', cache.url]);
    await assertIdle(fetching, [fetching.pid]);
  });
});

function isProgress({ event }: { readonly event: string }): boolean {
  return event === 'progress';
}
