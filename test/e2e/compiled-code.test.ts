import assert from 'node:assert/strict';
import { globSync, statSync, type Stats } from 'node:fs';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab } from '../support/lab.ts';

let lab: Lab;
before(async () => {
  lab = await Lab.open();
});
after(() => lab[Symbol.asyncDispose]());

/** A folder for compiled code, and the runs that use it. */
class Compiled {
  readonly env: Record<string, string>;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.env = { NODE_COMPILE_CACHE: '', XDG_CACHE_HOME: folder };
  }

  async run(...args: readonly string[]): Promise<void> {
    const { status, stderr } = await lab.runPlain(args, { env: this.env });
    assert.deepEqual([status, stderr], [0, '']);
  }

  async fetch(): Promise<void> {
    await this.run(...(await fetchArgs()), '--quiet');
  }

  file(command: string): string {
    const found = globSync(`narswarm-compiled/core-${command}-*`, { cwd: this.#folder });
    assert.equal(found.length, 1, `${command}: ${found.join()}`);
    return join(this.#folder, found[0] ?? '');
  }

  stat(command: string): Stats {
    return statSync(this.file(command));
  }
}

async function fetchArgs(): Promise<readonly string[]> {
  const from = ['--from', `file://${await lab.fixtureCache()}`, '--trusted-public-key', await fixtureKey()];
  return ['fetch', FIXTURE_ROOT, '--store', lab.path('store'), '--no-copy', ...from, ...ALONE];
}

const compiled = async (): Promise<Compiled> => new Compiled(await lab.folder('cache'));

test('functions that a command has compiled are kept for its next start', async () => {
  const kept = await compiled();
  await kept.run('--version');
  await kept.fetch();
  const { ino, size } = kept.stat('fetch');
  assert.ok(size > kept.stat('others').size * 1.2, `${size} bytes contain the functions of a fetch`);
  await kept.fetch();
  assert.equal(kept.stat('fetch').ino, ino, 'V8 has accepted them');
});

test('a daemon has kept them before it is killed, and uses them at its next start', async () => {
  const kept = await compiled();
  const args = ['daemon', '--store', lab.path('store'), ...ALONE, '--substituter-port', '0'];
  const inodes: number[] = [];
  for (const _ of [1, 2]) {
    const { process: daemon } = await lab.service([...args, '--trusted-public-key', await fixtureKey()], kept);
    inodes.push(kept.stat('daemon').ino);
    await daemon.stop('SIGKILL');
  }
  assert.equal(inodes[0], inodes[1]);
});

test('the first run of a command uses and keeps the functions of another one', async () => {
  const kept = await compiled();
  await kept.fetch();
  await kept.run('--version');
  assert.ok(kept.stat('others').size > kept.stat('fetch').size * 0.95);
});

test('a fetch that continues seeding has kept them before', async () => {
  const kept = await compiled();
  const fetch = lab.start([...(await fetchArgs()), '--seed-for', '1h'], kept);
  await fetch.event('seeding');
  await fetch.stop('SIGKILL');
  assert.ok(kept.stat('fetch').size > 0);
});

test('kept functions are renewed after a day, but never for fewer', async () => {
  const kept = await compiled();
  const age = (command: string): Promise<void> => utimes(kept.file(command), 0, 0);
  await kept.run('fetch', '--help');
  const { ino, size } = kept.stat('fetch');
  await kept.fetch();
  assert.equal(kept.stat('fetch').ino, ino, 'on the same day');
  await age('fetch');
  await kept.fetch();
  const renewed = kept.stat('fetch');
  assert.ok(renewed.size > size * 1.1, `${renewed.size} bytes instead of ${size}`);
  await age('fetch');
  await kept.run('fetch', '--help');
  assert.ok(kept.stat('fetch').size >= renewed.size);
  assert.ok(kept.stat('fetch').mtimeMs > 0, 'looked at for another day');
});

for (const [name, at] of [
  ['of another build', 2],
  ['that are damaged', 200_000],
] as const)
  test(`kept functions ${name} are not used, but replaced`, async () => {
    const kept = await compiled();
    await kept.run('--version');
    const file = kept.file('others');
    const bytes = await readFile(file);
    bytes[at] = (bytes[at] ?? 0) ^ 0xff;
    await writeFile(file, bytes);
    const damaged = kept.stat('others').ino;
    await kept.run('--version');
    assert.notEqual(kept.stat('others').ino, damaged);
  });

test('a command that fails keeps nothing', async () => {
  const kept = await compiled();
  const { status } = await lab.runPlain(['fetch', '--no-such-flag'], kept);
  assert.equal(status, 2);
  assert.throws(() => kept.file('fetch'));
});

test('a command that waits for something that never happens does not succeed', async () => {
  const mute = `data:text/javascript,process.stdout.write=(text)=>text!==''`;
  const { status, stderr } = await lab.runPlain(['config'], { env: { NODE_OPTIONS: `--import=${mute}` } });
  assert.equal(status, 1);
  assert.match(stderr, /^error: the command waits for something that never happens: this is a bug$/m);
});
