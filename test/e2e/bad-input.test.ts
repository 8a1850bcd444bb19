/** Malformed command lines and missing programs: one sentence that names the problem, and its exit status. */
import assert from 'node:assert/strict';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { startHttpCache } from '../support/http-cache.ts';
import { openFixtureLab } from '../support/fixture-lab.ts';
import { ALONE, assertFailure, assertSound, FIXTURE_ROOT, mirrorOf } from '../support/lab.ts';

const HEX = 'ab'.repeat(32);
const ADDRESS = `magnet:?xs=urn:btpk:${HEX}`;

const { lab, cache, key } = await openFixtureLab();
after(() => lab[Symbol.asyncDispose]());

describe('bad input', { concurrency: 4 }, () => {
  const fetching = (): string[] => ['fetch', FIXTURE_ROOT, '--from', cache.url, '--trusted-public-key', key];
  /** Command line and expected stderr; `STORE` stands for a folder that does not exist yet. */
  const malformed: readonly (readonly [name: string, args: readonly string[], says: RegExp])[] = [
    ['a store path', ['fetch', '/nix/store/short-name', '--from', 'http://127.0.0.1:9'], /"?\/nix\/store\/short-name/],
    [
      'a key',
      ['fetch', 'lab', '--trusted-public-key', 'no-colon'],
      /--trusted-public-key.*NAME|--trusted-public-key.*<name>/,
    ],
    [
      'a key in a file',
      ['fetch', 'lab', '--trusted-public-key', 'lab.public'],
      /"lab\.public".*write "\$\(cat FILE\)"$/,
    ],
    [
      'a key that is the empty text',
      ['fetch', 'lab', '--trusted-public-key', ''],
      /--trusted-public-key.*It is empty: give it a value/,
    ],
    [
      'an address that is the empty text',
      ['fetch', 'lab', '--publisher', ''],
      /--publisher.*It is empty: give it a value/,
    ],
    ['an address', ['fetch', 'lab', '--publisher', 'magnet:?xs=urn:btih:00'], /magnet:\?xs=urn:btih:00/],
    ['an address of another scheme', ['fetch', 'lab', '--publisher', `ftp://h/?xs=urn:btpk:${HEX}`], /scheme ftp:/],
    ['a salt', ['fetch', 'lab', '--publisher', `${ADDRESS}&s=xyz`], /s is not the hex/],
    ['an upstream', ['fetch', 'lab', '--from', 'cache.example.org'], /cache\.example\.org is not an upstream/],
    ['an upstream of another scheme', ['fetch', 'lab', '--from', 's3://bucket'], /s3:\/\/bucket is not an upstream/],
    ['a duration', ['fetch', 'lab', '--seed-for', 'soon'], /--seed-for.*soon.*90s/],
    ['a rate', ['fetch', 'lab', '--max-download-rate', 'fast'], /--max-download-rate.*fast/],
    ['a rate of nothing', ['fetch', 'lab', '--max-download-rate', '0'], /--max-download-rate.*above 0/],
    ['a folder that is the empty text', ['gc', '--store', ''], /--store is empty: give it a value/],
    ['a target that is the empty text', ['fetch', FIXTURE_ROOT, '--to', ''], /--to is empty/],
    ['a port', ['fetch', 'lab', '--port', '70000'], /--port.*70000.*65535/],
    ['a peer', ['fetch', 'lab', '--peer', 'nowhere'], /--peer.*nowhere/],
    ['a bootstrap node', ['dht', '--bootstrap', '127.0.0.1:x'], /--bootstrap.*127\.0\.0\.1:x/],
    ['a scope', ['daemon', '--scope', 'everyone'], /--scope.*everyone.*off, lan, cohort, public/],
    ['peers and no peers', ['fetch', 'lab', '--scope', 'off', '--peer', '127.0.0.1:1'], /--scope off.*--peer/],
    ['a root of publish', ['publish', '--store', 'STORE', '--root', 'lab'], /--root.*NAME=STOREPATH/],
    [
      'two roots of one name',
      ['publish', '--store', 'STORE', ...twice('--root', `a=${FIXTURE_ROOT}`)],
      /two --root have the same name/,
    ],
    [
      'publish --from without roots',
      ['publish', '--store', 'STORE', '--from', 'http://127.0.0.1:9'],
      /--root NAME=STOREPATH/,
    ],
    ['nothing to mount', ['mount', '/mnt'], /missing required argument 'root': see narswarm mount --help$/],
    ['no root', ['fetch'], /missing required argument 'root': see narswarm fetch --help$/],
    [
      'an unknown option',
      ['fetch', 'lab', '--no-such-option'],
      /unknown option '--no-such-option'.*: see narswarm fetch --help$/,
    ],
    ['a misspelled option', ['fetch', 'lab', '--scop'], /'--scop' \(did you mean --scope\?\): see narswarm fetch/],
    ['too many arguments', ['config', 'x', 'y'], /got 2: x, y: see narswarm config --help$/],
    ['an unknown command', ['frobnicate'], /unknown command 'frobnicate': see narswarm --help$/],
    ['a misspelled command', ['fech', 'lab'], /unknown command 'fech' \(did you mean fetch\?\): see narswarm --help$/],
    ['help for an unknown command', ['help', 'nope'], /unknown command 'nope': see narswarm --help$/],
    ['help for a misspelled command', ['help', 'fech'], /unknown command 'fech' \(did you mean fetch\?\)/],
    ['the help of an unknown command', ['nope', '--help'], /unknown command 'nope': see narswarm --help$/],
    ['the hash of a torrent', ['torrent', 'xyz', '--store', 'CACHE'], /"?xyz/],
  ];
  for (const [name, args, says] of malformed) {
    test(`malformed: ${name}`, async () => {
      const store = lab.path('store');
      const trust = args.includes('--trusted-public-key') || args[0] === 'dht' ? [] : ['--trusted-public-key', key];
      const filled = args.map((arg) => (arg === 'STORE' ? store : arg === 'CACHE' ? join(lab.dir, 'fixture-1') : arg));
      const extra = args[0] === 'fetch' ? ['--store', store, '--no-copy', ...trust, ...ALONE] : [];
      const run = await lab.run([
        ...filled,
        ...(args[0] === 'fetch' && !args.includes('--from') ? ['--no-upstream'] : []),
        ...extra,
      ]);
      assert.equal(run.status, 2, run.stdout + run.stderr);
      const [first = ''] = run.stderr.split('\n');
      assert.match(first, /^error: /);
      assert.match(first, says);
      assert.doesNotMatch(run.stderr, /^ {4}at /m);
      assert.deepEqual([run.event('error')['code'] !== 'INTERNAL', run.event('error')['exitStatus']], [true, 2]);
      const left = await readdir(store).catch(() => []);
      assert.ok(left.every((file) => !file.endsWith('.narinfo')));
    });
  }

  test('the error for an unknown root lists the known ones', async () => {
    const store = await lab.fixtureCache();
    const what = ['--store', store, '--trusted-public-key', key, '--key', lab.path('key')];
    const published = await lab.run(['publish', '--once', ...what, '--root', `top=${FIXTURE_ROOT}`]);
    assert.equal(published.status, 0, published.stderr);
    const index = lab.use(await startHttpCache(String(published.event('published')['dir'])));
    const mirror = mirrorOf(String(published.event('published')['address']), index.url);
    const trust = ['--trusted-public-key', key, '--no-copy', '--no-upstream', ...ALONE];
    const run = await lab.run(['fetch', 'desktop', '--publisher', mirror, '--store', lab.path('store'), ...trust]);
    assertFailure(run, 3, 'ROOT_UNKNOWN', /"desktop" is neither .*the hash maps name: top/);
    const none = await lab.run(['fetch', 'desktop', '--store', lab.path('store'), ...trust]);
    assertFailure(none, 3, 'ROOT_UNKNOWN', /"desktop" is neither .*no hash map was asked/);
  });

  test('publish refuses an empty folder, an empty cache, and one without a signed path', async () => {
    const publish = ['publish', '--once', '--key', lab.path('key'), '--trusted-public-key'];
    const empty = await lab.folder('empty');
    assertFailure(
      await lab.run([...publish, key, '--store', empty]),
      7,
      'STORE_CORRUPT',
      new RegExp(`${empty} is not a binary cache`),
    );
    assertFailure(
      await lab.run([...publish, key, '--store', lab.path('nowhere')]),
      7,
      'STORE_CORRUPT',
      /nowhere.* is not a binary cache/,
    );
    const withoutPaths = await lab.folder('store');
    await writeFile(join(withoutPaths, 'nix-cache-info'), 'StoreDir: /nix/store\n');
    assertFailure(
      await lab.run([...publish, key, '--store', withoutPaths]),
      3,
      'NOT_FOUND',
      /nothing in .* can be published \(it holds no narinfos\)/,
    );
    const other = `other-1:${Buffer.alloc(32, 1).toString('base64')}`;
    const unsigned = await lab.run([...publish, other, '--store', await lab.fixtureCache()]);
    assertFailure(
      unsigned,
      4,
      'NARINFO_UNTRUSTED',
      /nothing in .* can be published .*not signed.*--trusted-public-key/,
    );
    const root = await lab.run([
      ...publish,
      other,
      '--store',
      await lab.fixtureCache(),
      '--root',
      `top=${FIXTURE_ROOT}`,
    ]);
    assertFailure(root, 4, 'NARINFO_UNTRUSTED', /top\+1\.0_x=\?.*fixture-1/);
  });

  test('torrent refuses a path that the store does not hold', async () => {
    const path = FIXTURE_ROOT.replace('ak1r', 'ak2r');
    const run = await lab.run(['torrent', path, '--store', await lab.fixtureCache(), '--magnet']);
    assertFailure(run, 3, 'NOT_FOUND', /holds no narinfo of \/nix\/store\/ak2r/);
  });

  test('a malformed key file, or one that cannot be created, is refused', async () => {
    const none = await lab.run(['key', '--file', join(lab.dir, 'fixture-1', 'nix-cache-info')]);
    assertFailure(none, 2, 'KEY_INVALID', /nix-cache-info does not hold a secret key/);
    const folder = await lab.folder('folder');
    assertFailure(await lab.run(['key', '--file', folder]), 2, 'KEY_INVALID', new RegExp(folder));
  });

  test('a port in use is reported', async () => {
    const port = String(cache.port);
    const daemon = ['daemon', '--store', lab.path('store'), '--trusted-public-key', key];
    assertFailure(
      await lab.run([...daemon, '--port', port, ...ALONE]),
      9,
      'LISTEN_FAILED',
      new RegExp(`127.0.0.1:${port}`),
    );
    const publish = [
      'publish',
      '--store',
      await lab.fixtureCache(),
      '--trusted-public-key',
      key,
      '--key',
      lab.path('key'),
    ];
    const run = await lab.run([...publish, '--http-port', port, ...ALONE]);
    assertFailure(run, 9, 'LISTEN_FAILED', new RegExp(`cannot serve HTTP on port ${port}.*--http-port`));
  });

  test('without nix in PATH everything but the import works, and the message says so', async () => {
    const bin = await lab.folder('bin');
    await symlink('/usr/bin/xz', join(bin, 'xz'));
    const env = { PATH: bin };
    const what = fetching();
    const to = ['--to', `local?root=${await lab.folder('target')}`];
    const run = await lab.run([...what, '--store', lab.path('store'), ...to], { env });
    assertFailure(run, 8, 'NIX_MISSING', /there is no `nix(-store)?` in PATH/);
    const unset = await lab.run(['fetch', FIXTURE_ROOT, '--store', lab.path('store'), '--no-copy'], { env });
    assertFailure(unset, 8, 'NIX_MISSING', /there is no `nix` in PATH.*--from and --trusted-public-key/);
    const store = lab.path('store');
    const done = await lab.run([...what, '--store', store, '--no-copy'], { env });
    assert.equal(done.status, 0, done.stderr);
    assert.equal((await assertSound(store, key)).narInfos.length, 3);
  });

  test('the help of every command has examples and exit statuses', async () => {
    for (const name of ['key', 'publish', 'fetch', 'daemon', 'torrent', 'dht', 'demo']) {
      const run = await lab.runPlain([name, '--help']);
      assert.equal(run.status, 0);
      assert.match(run.stdout, new RegExp(`Usage: narswarm ${name}`));
      assert.match(run.stdout, /\nExamples:\n {2}\$ narswarm /);
      assert.match(
        run.stdout,
        /\nExit status:\n {4}0 {2}everything requested was done\n {4}1 {2}a bug in narswarm: please report it\n {4}2 {2}/,
      );
      assert.match(run.stdout, /--json/);
    }
    assert.match((await lab.runPlain(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test('a limit of too few open files is one sentence with the way out', async () => {
    const store = await lab.folder('store');
    const wrapper = ['sh', '-c', 'ulimit -n 28; exec "$@"', 'sh'];
    const args = [...fetching(), '--no-copy', '--store', store];
    assertFailure(
      await lab.run(args, { wrapper }),
      7,
      'STORE_UNWRITABLE',
      /too many files are open: raise the limit \(ulimit -n/,
    );
    assert.equal((await lab.run(args)).status, 0, 'the next run goes on');
  });

  test('a store that is a file is refused', async () => {
    const dir = await lab.folder('dir');
    await mkdir(join(dir, 'nar'), { recursive: true });
    const run = await lab.run([...fetching(), '--no-copy', '--store', '/dev/null']);
    assertFailure(run, 7, 'STORE_UNWRITABLE', /\/dev\/null/);
  });
});

function twice(...args: readonly string[]): string[] {
  return [...args, ...args];
}
