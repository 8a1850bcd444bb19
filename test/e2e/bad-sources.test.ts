/** Untrusted narinfos and hash maps are refused by name, and never spoil a store. */
import assert from 'node:assert/strict';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHttpCache } from '../support/http-cache.ts';
import {
  ALONE,
  assertFailure,
  assertSound,
  FIXTURE_ROOT,
  fixtureKey,
  Lab,
  mirrorOf,
  type CliEvent,
  type Run,
} from '../support/lab.ts';

const ROOT_HASH = FIXTURE_ROOT.slice('/nix/store/'.length).slice(0, 32);
const LEAF = '2s4q97y13dynyhi482033jrx8vka36yx';

describe('sources that cannot be trusted', { concurrency: 4 }, () => {
  let lab: Lab;
  let key: string;

  before(async () => {
    lab = await Lab.open();
    key = await fixtureKey();
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = (store: string, args: readonly string[]): Promise<Run> =>
    lab.run(['fetch', FIXTURE_ROOT, '--store', store, '--no-copy', '--trusted-public-key', key, ...args]);
  /** An upstream in which one narinfo was changed. */
  const upstreamWith = async (hash: string, change: (text: string) => string): Promise<string> => {
    const dir = await lab.fixtureCache();
    const file = join(dir, `${hash}.narinfo`);
    await writeFile(file, change(await readFile(file, 'utf8')));
    return lab.use(await startHttpCache(dir)).url;
  };
  /** Publishes the fixtures and serves the hash map at a mirror. */
  const publish = async (
    args: readonly string[] = [],
    store?: string,
  ): Promise<{ mirror: string; dir: string; address: string; built: CliEvent }> => {
    const from = store ?? (await lab.fixtureCache());
    const own = args.includes('--key') ? [] : ['--key', lab.path('key')];
    const what = ['--store', from, '--trusted-public-key', key, ...own];
    const run = await lab.run(['publish', '--once', ...what, ...args]);
    assert.equal(run.status, 0, run.stderr);
    const dir = await lab.folder('mirror');
    await cp(String(run.event('published')['dir']), dir, { recursive: true });
    const address = String(run.event('published')['address']);
    const { url } = lab.use(await startHttpCache(dir));
    return { mirror: mirrorOf(address, url), dir, address, built: run.event('built') };
  };

  const narInfos: readonly (readonly [name: string, change: (text: string) => string, code: string, says: RegExp])[] = [
    [
      'unsigned',
      (text) => text.replace(/^Sig: .*\n/m, ''),
      'NARINFO_UNTRUSTED',
      /leaf-1\.0.*(not signed|no signature|unsigned)/i,
    ],
    [
      'wrongly signed',
      (text) => text.replace(/^NarSize: .*/m, 'NarSize: 121'),
      'NARINFO_UNTRUSTED',
      /leaf-1\.0.*fixture-1/,
    ],
    [
      'signed by somebody else',
      (text) => text.replace('Sig: fixture-1:', 'Sig: other-1:'),
      'NARINFO_UNTRUSTED',
      /leaf-1\.0.*other-1/,
    ],
    ['cut short', (text) => text.slice(0, 200), 'NARINFO_INVALID', /[0-9a-z]{32}\.narinfo: corrupt narinfo/],
    ['that is a web page', () => '<html>not found</html>\n', 'NARINFO_INVALID', /corrupt narinfo/],
    ['with CRLF', (text) => text.replaceAll('\n', '\r\n'), 'NARINFO_INVALID', /CRLF/],
    [
      'with a NUL in its URL',
      (text) => text.replace('URL: nar/', 'URL: nar/\0'),
      'NARINFO_INVALID',
      /control character/,
    ],
  ];
  for (const [name, change, code, says] of narInfos) {
    test(`a narinfo ${name}`, async () => {
      const store = await lab.folder('store');
      const url = await upstreamWith(LEAF, change);
      const run = await fetch(store, ['--from', url]);
      assertFailure(run, 4, code, says);
      assert.match(run.stderr, new RegExp(`from ${url}`));
      assert.deepEqual((await assertSound(store, key)).narInfos, []);
      // After a lying cache, the next one is still asked.
      const good = lab.use(await startHttpCache(await lab.fixtureCache()));
      const second = await fetch(store, ['--from', url, '--from', good.url]);
      assert.equal(second.status, 0, second.stderr);
      await assertSound(store, key);
    });
  }

  test('a narinfo of another path is refused', async () => {
    const store = await lab.folder('store');
    const other = await readFile(join(await lab.fixtureCache(), `${ROOT_HASH}.narinfo`), 'utf8');
    const run = await fetch(store, ['--from', await upstreamWith(LEAF, () => other)]);
    assertFailure(
      run,
      4,
      'NARINFO_MISMATCH',
      new RegExp(`asked for the narinfo of ${LEAF}, got the one of ${FIXTURE_ROOT.replace(/[+?]/g, '.')}`),
    );
    assert.deepEqual((await assertSound(store, key)).narInfos, []);
  });

  test('a narinfo whose URL leads elsewhere is refused', async () => {
    const hostile = [
      '../../../etc/passwd',
      '/etc/passwd',
      'nar/../../secret',
      'file:///etc/passwd',
      'http://127.0.0.1:9/x',
      's3://127.0.0.1/x',
      'nar/%2e%2e/%2e%2e/x',
      'nar\\..\\x',
    ];
    for (const url of hostile) {
      const store = await lab.folder('store');
      const upstream = await upstreamWith(LEAF, (text) => text.replace(/^URL: .*/m, `URL: ${url}`));
      const run = await fetch(store, ['--from', upstream]);
      assert.ok(run.status === 4 || run.status === 5, `${url}: ${run.status} ${run.stderr}`);
      assert.match(run.stderr, /^error: .*leaf-1\.0/);
      if (/^(file|s3):/.test(url)) assert.match(run.stderr, /is not an http or https address/);
      const { narInfos: written } = await assertSound(store, key);
      assert.ok(!written.some((name) => name.includes('leaf-1.0')), 'and nothing that refers to it');
    }
  });

  test('a hash map with a bad signature, or of another publisher, is refused', async () => {
    const { dir, mirror } = await publish();
    const bytes = await readFile(join(dir, 'manifest'), 'utf8');
    await writeFile(
      join(dir, 'manifest'),
      bytes.replace(/^(Seq|seq): (\d)/m, (_, name: string, digit: string) => `${name}: ${(Number(digit) + 1) % 10}`),
    );
    assert.notEqual(await readFile(join(dir, 'manifest'), 'utf8'), bytes);
    const store = await lab.folder('store');
    const forged = await fetch(store, ['--publisher', mirror, '--no-upstream', ...ALONE]);
    assertFailure(forged, 6, 'INDEX_SIGNATURE', /the manifest cannot be trusted: it is not signed by the key/);

    await writeFile(join(dir, 'manifest'), bytes);
    const other = mirror.replace(/btpk:.{64}/, `btpk:${'ab'.repeat(32)}`);
    const oneOfTwo = await fetch(store, ['--publisher', other, '--publisher', other, '--no-upstream', ...ALONE]);
    assertFailure(
      oneOfTwo,
      6,
      'INDEX_SIGNATURE',
      /^error: the manifest cannot be trusted: .* \(publisher http:\/\/127\.0\.0\.1:\d+\/\?xs=urn:btpk:(?:ab){32}\)/,
    );
    assertFailure(await fetch(store, ['--publisher', other, '--no-upstream', ...ALONE]), 6, 'INDEX_SIGNATURE', /abab/);
    await writeFile(join(dir, 'manifest'), bytes.slice(0, 100));
    assertFailure(
      await fetch(store, ['--publisher', mirror, '--no-upstream', ...ALONE]),
      6,
      'INDEX_SIGNATURE',
      /cut short/,
    );
    assert.deepEqual(await assertSound(store, key), { narInfos: [], nars: [] });

    // With an upstream the closure comes all the same.
    const upstream = lab.use(await startHttpCache(await lab.fixtureCache()));
    const mended = await fetch(store, ['--publisher', mirror, '--from', upstream.url, ...ALONE]);
    assert.equal(mended.status, 0, mended.stderr);
    assert.match(String(mended.event('warning')['message']), /the manifest cannot be trusted/);
    await assertSound(store, key);
  });

  test('a hash map with a damaged shard is refused', async () => {
    const { dir, mirror } = await publish();
    const file = join(dir, 'shards', 'all.zst');
    const bytes = await readFile(file);
    await writeFile(
      file,
      bytes.map((byte, index) => (index === 50 ? byte ^ 1 : byte)),
    );
    const run = await fetch(await lab.folder('store'), ['--publisher', mirror, '--no-upstream', ...ALONE]);
    assertFailure(run, 6, 'INDEX_INVALID', /shard/);
  });

  test('an expired hash map is refused, whether new or kept from before', async () => {
    const { mirror, built, dir, address } = await publish(['--valid-for', '1s']);
    const expires = String(built['expires']);
    while (Date.now() <= Date.parse(expires)) await sleep(Date.parse(expires) - Date.now() + 1);
    const late = await fetch(await lab.folder('store'), ['--publisher', mirror, '--no-upstream', ...ALONE]);
    assertFailure(late, 6, 'INDEX_EXPIRED', new RegExp(`the manifest expired at ${expires}`));

    const store = await lab.folder('store');
    await cp(dir, keptIn(store, address), { recursive: true });
    await rm(join(dir, 'manifest'));
    const gone = await fetch(store, ['--publisher', mirror, '--no-upstream', ...ALONE]);
    assertFailure(
      gone,
      6,
      'INDEX_EXPIRED',
      new RegExp(`the kept edition expired at ${expires}, and no newer one was fetched: .*does not exist`),
    );
    const down = mirrorOf(address, 'http://127.0.0.1:1');
    const refused = await fetch(store, ['--publisher', down, '--no-upstream', ...ALONE]);
    assertFailure(
      refused,
      6,
      'INDEX_EXPIRED',
      /the kept edition expired.*ECONNREFUSED 127\.0\.0\.1:1: check the address, .*$/m,
    );
  });

  test('a hash map older than one that was seen is refused', async () => {
    const store = await lab.fixtureCache();
    const same = ['--key', lab.path('key')];
    const older = await publish([...same, '--root', `old=${FIXTURE_ROOT}`], store);
    const newer = await publish([...same, '--root', `new=${FIXTURE_ROOT}`], store);
    assert.ok(Number(newer.built['seq']) > Number(older.built['seq']));
    const client = await lab.folder('store');
    const dry = ['--no-upstream', '--dry-run', ...ALONE];
    // A dry run keeps nothing.
    const cache = lab.use(await startHttpCache(store));
    const small = ['fetch', LEAF, '--store', client, '--no-copy', '--trusted-public-key', key, '--from', cache.url];
    assert.equal((await lab.run([...small, '--publisher', newer.mirror, ...ALONE])).status, 0);
    const back = await fetch(client, ['--publisher', older.mirror, ...dry]);
    assert.equal(back.status, 0, 'what was kept of the newer one is good enough');
    const says = new RegExp(`has seq ${String(older.built['seq'])}, but ${String(newer.built['seq'])} was seen before`);
    assert.match(String(back.event('warning')['message']), says);
    const root = ['fetch', 'old', '--store', client, '--no-copy', '--trusted-public-key', key];
    assertFailure(
      await lab.run([...root, '--publisher', older.mirror, ...dry, '--quiet']),
      3,
      'ROOT_UNKNOWN',
      /name: new/,
    );
    await rm(join(keptIn(client, older.address), 'shards'), { recursive: true });
    assertFailure(await fetch(client, ['--publisher', older.mirror, ...dry]), 6, 'INDEX_ROLLBACK', says);
  });

  test('a hash map that nobody has is reported', async () => {
    const gone = await startHttpCache(await lab.folder('gone'));
    const { address } = await publish();
    const missing = ['--publisher', mirrorOf(address, gone.url), '--no-upstream', ...ALONE];
    assertFailure(
      await fetch(await lab.folder('store'), missing),
      6,
      'INDEX_UNREACHABLE',
      new RegExp(`${gone.url}/manifest does not exist`),
    );
    await gone.stop();
    assertFailure(await fetch(await lab.folder('store'), missing), 6, 'INDEX_UNREACHABLE', new RegExp(gone.url));
    const off = await fetch(await lab.folder('store'), ['--publisher', address, '--no-upstream', ...ALONE]);
    assertFailure(off, 6, 'INDEX_UNREACHABLE', /needs the DHT, which is off/);

    const { bootstrap } = await lab.dht(2);
    const nodes = bootstrap.flatMap(({ host, port }) => ['--dht-bootstrap', `${host}:${port}`]);
    const inDht = ['--listen', '127.0.0.1', '--no-lan', ...nodes, '--publisher-timeout', '2s'];
    const run = await fetch(await lab.folder('store'), ['--publisher', address, '--no-upstream', ...inDht]);
    assertFailure(run, 6, 'INDEX_UNREACHABLE', /no answer about the hash map magnet:\?xs=urn:btpk:.* in 2 s/);
  });
});

/** Folder in which a store keeps the hash map of a followed publisher. */
function keptIn(store: string, address: string): string {
  const [, hex = ''] = /btpk:(.{64})/.exec(address) ?? [];
  return join(store, 'narswarm', 'index', `${hex}-0`);
}
