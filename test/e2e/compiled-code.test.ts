import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, statSync, type Stats } from 'node:fs';
import { chmod, chown, readFile, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';
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

  async run(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await lab.runPlain(args, { env: this.env });
    assert.deepEqual([status, stderr], [0, '']);
    return stdout;
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
  const inodes: number[] = [];
  for (const _ of [1, 2]) {
    const fetch = lab.start([...(await fetchArgs()), '--seed-for', '1h'], kept);
    await fetch.event('seeding');
    await fetch.stop('SIGKILL');
    inodes.push(kept.stat('fetch').ino);
  }
  assert.equal(inodes[0], inodes[1], 'V8 has accepted them');
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

const NOBODY = 65_534;
const PLANTED = 'planted code runs';

/** Makes a file of kept functions that V8 takes for those of the core, since the script has the same length. */
async function plantedCode(): Promise<Buffer> {
  const core = await readFile(new URL('../../dist/core.js', import.meta.url));
  const begin = '(function (exports, require, module, __filename, __dirname) {';
  const planted = `if (exports === undefined) return; process.stdout.write('${PLANTED}'); process.exit(0);`;
  const script = new Script(`${begin}${planted.padEnd(core.toString().length)}\n})`);
  (script.runInThisContext() as () => void)(); // V8 keeps only what has run
  const code = script.createCachedData();
  const head = Buffer.alloc(8);
  head.writeUInt32LE(crc32(core), 0);
  head.writeUInt32LE(crc32(code), 4);
  return Buffer.concat([head, code]);
}

/** How a file of kept functions comes to be another user's, or may have been written by one. */
const NOT_OWN: Readonly<Record<string, (file: string) => Promise<void>>> = {
  'of another user': (file) => chown(file, NOBODY, NOBODY),
  'that a group can write': (file) => chmod(file, 0o660),
  'that others can write': (file) => chmod(file, 0o606),
  'behind a link': async (file) => {
    await rename(file, `${file}-elsewhere`);
    await symlink(`${file}-elsewhere`, file);
  },
};

for (const [name, change] of Object.entries(NOT_OWN))
  test(`kept functions ${name} are not run, but replaced`, async () => {
    const kept = await compiled();
    const version = await kept.run('--version');
    const file = kept.file('others');
    const code = await plantedCode();
    await writeFile(file, code);
    assert.equal(await kept.run('--version'), PLANTED, 'the code could be run');
    await change(file);
    assert.equal(await kept.run('--version'), version);
    assert.notDeepEqual(await readFile(file), code);
    assert.equal(await kept.run('--version'), version);
  });

for (const mode of [0o770, 0o707])
  test(`a folder with mode ${mode.toString(8)} is not used for compiled code`, async () => {
    const kept = await compiled();
    const version = await kept.run('--version');
    const file = kept.file('others');
    const code = await plantedCode();
    await writeFile(file, code);
    await chmod(dirname(file), mode);
    assert.equal(await kept.run('--version'), version);
    assert.deepEqual(await readFile(file), code, 'not replaced');
  });

test('what processes left that were killed while they saved is removed', async () => {
  const kept = await compiled();
  await kept.run('--version');
  const file = kept.file('others');
  const gone = spawnSync('true').pid;
  await writeFile(`${file}.${gone}`, 'half');
  await writeFile(`${file}.${process.pid}`, 'half');
  await writeFile(file, 'damaged');
  await kept.run('--version');
  assert.deepEqual(
    [gone, process.pid].map((pid) => existsSync(`${file}.${pid}`)),
    [false, true],
  );
});

test('a folder of compiled code that cannot be read stops no command', async () => {
  const kept = await compiled();
  const failing = `fs.readdirSync = () => { throw Object.assign(new Error('EIO'), { code: 'EIO' }); };`;
  const script = `import fs from 'node:fs'; import { syncBuiltinESMExports } from 'node:module'; ${failing} syncBuiltinESMExports();`;
  const env = { ...kept.env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` };
  const { status, stderr } = await lab.runPlain(['--version'], { env });
  assert.deepEqual([status, stderr], [0, '']);
});

for (const umask of ['000', '002'])
  test(`compiled code is this user's alone, also with umask ${umask}`, async () => {
    const home = await lab.folder('home');
    const env = { NODE_COMPILE_CACHE: '', XDG_CACHE_HOME: '', HOME: home };
    const wrapper = ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'];
    for (const _ of [1, 2]) assert.equal((await lab.runPlain(['--version'], { env, wrapper })).status, 0);
    const found = ['.cache', '.cache/narswarm-compiled', ...globSync('.cache/narswarm-compiled/core-*', { cwd: home })];
    assert.deepEqual(
      found.map((name) => (statSync(join(home, name)).mode & 0o777).toString(8)),
      ['700', '700', '600'],
    );
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
