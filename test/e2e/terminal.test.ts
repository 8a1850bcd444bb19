/** The screen of a person who fetches: the real program in a pseudo-terminal, and a terminal that shows what it writes. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { Lab, type Run } from '../support/lab.ts';
import { VirtualTerminal } from '../support/virtual-terminal.ts';

const IN_TERMINAL = fileURLToPath(new URL('../support/in_terminal.py', import.meta.url));
const ESCAPE = '\u001b';
/** Each frame switches wrapping off and on again. */
const END_OF_FRAME = new RegExp(`(?<=${ESCAPE}\\[\\?7h(?:${ESCAPE}\\[\\d+A)?\\r)`);

describe('a terminal', { timeout: 180_000 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_000_000, 400_000, 200_000]);
    upstream = lab.use(await startHttpCache(made.cacheDir));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Fetches over a slow line in a terminal. */
  async function fetchIn(
    [columns, rows]: readonly [number, number],
    {
      keys = [],
      env = {},
    }: { readonly keys?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Run> {
    const wrapper = ['python3', IN_TERMINAL, String(columns), String(rows), ...keys, '--'];
    const slow = ['--no-copy', '--from', upstream.url, '--max-download-rate', '500kB/s'];
    const what = ['--store', await lab.folder('store'), '--trusted-public-key', made.publicKey];
    return lab.runPlain(['fetch', made.root, ...what, ...slow], { wrapper, env: { TERM: 'xterm-256color', ...env } });
  }

  /** Returns the screen after each frame and at the end. */
  async function screensOf({ stdout }: Run, [columns, rows]: readonly [number, number]): Promise<string[][]> {
    const terminal = new VirtualTerminal(columns, rows);
    const screens: string[][] = [];
    for (const part of stdout.split(END_OF_FRAME)) {
      terminal.write(part);
      screens.push(await terminal.lines());
    }
    return screens;
  }

  for (const size of [
    [80, 24],
    [40, 24],
  ] as const)
    test(`shows lines of progress in ${size[0]} columns, and then only the result`, async () => {
      const run = await fetchIn(size, { env: { NO_COLOR: '1' } });
      assert.equal(run.status, 0, run.stdout);
      const screens = await screensOf(run, size);
      assert.ok(screens.length > 10, 'it is redrawn');
      assert.doesNotMatch(run.stdout, new RegExp(`${ESCAPE}\\[\\d+m`));
      // Before the plan, NARs of the head start are shown.
      const during = screens.find(
        (lines) => lines.some((line) => line.startsWith('6 paths: ')) && lines.some((line) => / 1 cache /.test(line)),
      );
      const shown = (during ?? []).join('\n');
      assert.match(shown, size[0] === 80 ? /^fetching +\d+ % .*\/1\.6\d MB .* \d\/6 NARs/m : /^ +\d+ % .*\/1\.6\d MB/m);
      const end = (screens.at(-1) ?? []).join('');
      assert.doesNotMatch(end, /fetching|1 cache {2}/);
      assert.match(end, /walking the closure.*6 paths in .* s, all from 1 cache$/);
    });

  test('has colours, unless NO_COLOR is set', async () => {
    const run = await fetchIn([80, 24]);
    assert.equal(run.status, 0, run.stdout);
    assert.ok(run.stdout.includes(`${ESCAPE}[1mfetching`), run.stdout);
  });

  for (const [name, env] of Object.entries({
    'cannot redraw lines': { TERM: 'dumb' },
    'is a log of CI': { CI: 'true' },
  }))
    test(`that ${name} gets no control characters`, async () => {
      const run = await fetchIn([80, 24], { env });
      assert.equal(run.status, 0, run.stdout);
      assert.ok(!run.stdout.includes(ESCAPE), run.stdout);
      assert.match(run.stdout, /6 NARs fetched, /);
    });

  test('is left with a clean line by Ctrl-C', async () => {
    const run = await fetchIn([80, 24], { keys: ['6 paths: ', '\x03'] });
    assert.equal(run.status, 130, run.stdout);
    const [walking, plan, error, ...more] = (await screensOf(run, [80, 24])).at(-1) ?? [];
    assert.deepEqual([walking, more], ['walking the closure', []]);
    assert.match(plan ?? '', /^6 paths: /);
    assert.match(error ?? '', /^error: interrupted; run the same command again to continue$/);
  });
});
