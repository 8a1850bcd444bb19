/** Output in a terminal of 80 or 60 columns: publishers have short names, and lines fit. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { Lab, type ProcessOptions } from '../support/lab.ts';

const IN_TERMINAL = fileURLToPath(new URL('../support/in_terminal.py', import.meta.url));
const hex = (text: string): string => Buffer.from(text).toString('hex');
const PLAIN = `magnet:?xs=urn:btpk:${'3f9a1c2d'.padEnd(64, '7')}`;
const SALTED = `magnet:?xs=urn:btpk:${'a1'.repeat(32)}&s=${hex('lab')}`;
const MIRROR = `https://cache.example.org/maps?xs=urn:btpk:${'b2'.repeat(32)}`;
const DAY_MS = 86_400_000;

describe('a narrow terminal', () => {
  let lab: Lab;
  let store: string;
  let env: Record<string, string>;

  before(async () => {
    lab = await Lab.open();
    store = await lab.folder('store');
    const config = lab.path('narrow.toml');
    env = { NARSWARM_CONFIG: config, TERM: 'xterm-256color' };
    const lines: string[] = [];
    await mkdir(join(store, 'narswarm/subscriptions'), { recursive: true });
    await writeFile(join(store, 'nix-cache-info'), 'StoreDir: /nix/store\n');
    for (const [index, publisher] of [PLAIN, SALTED, MIRROR].entries())
      for (const root of ['desktop', 'server']) {
        const name = `${root}-${index}`;
        lines.push(`[subscriptions.${name}]`, `source = "${publisher}#${root}"`);
        await writeFile(join(store, `narswarm/subscriptions/${name}.json`), stateOf(name, publisher, root));
      }
    await writeFile(config, `${lines.join('\n')}\n`);
  });
  after(() => lab[Symbol.asyncDispose]());

  const inTerminal = (columns: number): ProcessOptions => ({
    env,
    wrapper: ['python3', IN_TERMINAL, String(columns), '24', '--'],
  });

  for (const columns of [80, 60])
    test(`status fits into ${columns} columns`, async () => {
      const { stdout, status } = await lab.runPlain(['status', '--store', store], inTerminal(columns));
      assert.equal(status, 0, stdout);
      const lines = stdout.replaceAll('\r', '').split('\n');
      assert.equal(lines.filter((line) => line.includes('last complete as of')).length, 6, stdout);
      for (const line of lines) assert.ok(line.length <= columns, `${line.length}: ${line}`);
      for (const name of ['3f9a1c2d…#desktop', 'lab#server', 'cache.example.org#server'])
        assert.ok(lines.includes(`  source    ${name}`), stdout);
      assert.doesNotMatch(stdout, /urn:btpk/);
    });

  test('config fits, with the origin of each value', async () => {
    const { stdout } = await lab.runPlain(['config', '--salt', 'x'.repeat(50)], inTerminal(80));
    const lines = stdout.replaceAll('\r', '').split('\n');
    for (const line of lines.slice(1)) assert.ok(line.length <= 80 || !line.trim().includes(' '), line);
    assert.ok(lines.includes('scope                  lan (default)'), stdout);
    const at = lines.findIndex((line) => line.startsWith('salt '));
    assert.equal(lines[at + 1], `${' '.repeat(23)}(--salt)`);
  });

  test('programs get whole addresses, and a pipe gets whole lines', async () => {
    const run = await lab.run(['status', '--store', store], { env });
    assert.deepEqual(
      run.events.filter(({ event }) => event === 'status').map(({ source }) => source),
      [PLAIN, SALTED, MIRROR].flatMap((publisher) => [`${publisher}#desktop`, `${publisher}#server`]),
    );
    const { stdout } = await lab.runPlain(['status', '--store', store], { env });
    assert.match(stdout, /^ {2}last run .* held before$/m);
    assert.match(stdout, /^ {2}why {7}3f9a1c2d…: the hash map of this publisher cannot be found: .* start it again$/m);
  });

  test('subscriptions says which publisher each name stands for', async () => {
    const { stdout } = await lab.runPlain(['subscriptions'], { env });
    assert.match(stdout, /^desktop-1 {2}lab#desktop$/m);
    assert.ok(
      stdout.endsWith(
        [
          '\npublishers',
          `  3f9a1c2d…          ${PLAIN}`,
          `  lab                ${SALTED}`,
          `  cache.example.org  ${mirror()}\n`,
        ].join('\n'),
      ),
    );
  });
});

function mirror(): string {
  return MIRROR.replace('?', '/?');
}

function stateOf(name: string, publisher: string, root: string): string {
  const at = new Date(Date.now() - 10 * DAY_MS).toISOString();
  const reason = `${publisher}: the hash map of this publisher cannot be found: see whether it runs, and start it again`;
  return JSON.stringify({
    name,
    source: `${publisher}#${root}`,
    completeAsOf: at,
    generations: [{ number: 31, at, wanted: '', roots: [], complete: true }],
    lastRun: {
      at,
      durationMs: 12_300,
      outcome: 'failed',
      failure: { reason, code: 'INDEX_UNREACHABLE', facts: { publisher } },
      bytes: { store: 4.5e9, peers: 45.7e6, upstream: 1.2e6 },
      nars: 50,
    },
    missing: [],
    missingCount: 0,
    notes: [],
  });
}
