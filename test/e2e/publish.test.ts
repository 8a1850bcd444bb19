/** The commands of a publisher: key, publish (again, from a cache, once), torrent. */
import assert from 'node:assert/strict';
import { cp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import bencode from 'bencode';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf, narBytesOf, readNarInfos, type Run } from '../support/lab.ts';

/** The tests wait more than they work. */
describe('publishing', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let totalBytes: number;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_200_000, 60_000, 5_000]);
    totalBytes = await narBytesOf(made.cacheDir);
  });
  after(() => lab[Symbol.asyncDispose]());

  const publish = (store: string, args: readonly string[]): Promise<Run> =>
    lab.run(['publish', '--once', '--store', store, '--trusted-public-key', made.publicKey, ...args]);
  const copyOfCache = async (): Promise<string> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true, preserveTimestamps: true });
    return dir;
  };

  test('key makes a key once, with mode 0600, and then shows it', async () => {
    const file = lab.path('sub/folder/publisher.key');
    const first = await lab.run(['key', '--file', file, '--salt', 'desktops']);
    assert.equal(first.status, 0, first.stderr);
    const { address, created } = first.event('key');
    assert.equal(created, true);
    assert.match(String(address), /^magnet:\?xs=urn:btpk:[0-9a-f]{64}&s=6465736b746f7073$/);
    const { mode } = await stat(file);
    assert.equal(mode & 0o777, 0o600);
    const bytes = await readFile(file);
    const second = await lab.run(['key', '--file', file, '--salt', 'desktops']);
    assert.deepEqual({ ...second.event('key') }, { ...first.event('key'), created: false });
    assert.deepEqual(await readFile(file), bytes);
    const plain = await lab.runPlain(['key', '--file', file]);
    assert.equal(plain.stdout, `${String(address).split('&')[0]}\n`);
  });

  test('publishing again hashes only new NARs; without any, the hash map stays the same', async () => {
    const dir = await copyOfCache();
    const [root] = await readNarInfosSorted(dir);
    const nar = join(dir, root.url);
    const aside = lab.path('nar');
    await cp(nar, aside);
    await rm(nar);
    const key = ['--key', lab.path('key')];

    const partly = await publish(dir, key);
    assert.equal(partly.status, 0, partly.stderr);
    assert.deepEqual(
      [partly.event('built')['records'], partly.event('built')['leftOut'], partly.event('built')['hashedBytes']],
      [5, 1, totalBytes - (root.fileSize ?? 0)],
    );
    assert.match(String(partly.event('warning')['message']), /is left out: its NAR is not in the store$/);

    await cp(aside, nar);
    const whole = await publish(dir, key);
    assert.deepEqual([whole.event('built')['records'], whole.event('built')['hashedBytes']], [6, root.fileSize]);
    assert.ok(Number(whole.event('built')['seq']) > Number(partly.event('built')['seq']));

    const manifest = join(String(whole.event('published')['dir']), 'manifest');
    const bytes = await readFile(manifest);
    const again = await publish(dir, key);
    const { hashedBytes, isNew, seq } = again.event('built');
    assert.deepEqual({ hashedBytes, isNew, seq }, { hashedBytes: 0, isNew: false, seq: whole.event('built')['seq'] });
    assert.equal(again.event('published')['address'], whole.event('published')['address']);
    assert.deepEqual(await readFile(manifest), bytes, 'the same bytes have the same infohash');
  });

  test('publish --once writes a hash map that a plain web server can mirror, and opens no port', async () => {
    const dir = await copyOfCache();
    const run = await publish(dir, ['--key', lab.path('key'), '--root', `lab=${made.root}`, '--salt', 'böller']);
    assert.equal(run.status, 0, run.stderr);
    assert.ok(!run.events.some(({ event }) => event === 'ready'));
    const index = lab.use(await startHttpCache(String(run.event('published')['dir'])));
    const upstream = lab.use(await startHttpCache(dir));
    const mirror = mirrorOf(String(run.event('published')['address']), index.url);
    const store = await lab.folder('store');
    const what = ['--publisher', mirror, '--from', upstream.url, '--trusted-public-key', made.publicKey, '--no-copy'];
    const fetched = await lab.run(['fetch', 'lab', '--store', store, ...what, ...ALONE]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal(fetched.event('plan')['torrents'], 6);
    await assertSound(store, made.publicKey);
  });

  test('publish --from first downloads missing paths of the roots', async () => {
    const upstream = lab.use(await startHttpCache(made.cacheDir));
    const store = lab.path('store');
    const from = ['--from', upstream.url, '--root', `lab=${made.root}`, '--key', lab.path('key')];
    const run = await publish(store, from);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('built')['records'], 6);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 6);
    upstream.resetCounts();
    const again = await publish(store, from);
    assert.equal(again.event('built')['hashedBytes'], 0);
    assert.equal(upstream.bytesSent(), 0);
  });

  test('publish with a root covers its closure and nothing else', async () => {
    const dir = await copyOfCache();
    const [, , smaller] = await readNarInfosSorted(dir);
    assert.ok(smaller !== undefined);
    const run = await publish(dir, ['--key', lab.path('key'), '--root', `small=${smaller.storePath}`]);
    assert.equal(run.status, 0, run.stderr);
    assert.ok(Number(run.event('built')['records']) < 6);
  });

  test('a hash map does not expire while its publisher runs, and takes in what is added to the store', async () => {
    const dir = await copyOfCache();
    const [root] = await readNarInfosSorted(dir);
    const nar = join(dir, root.url);
    const aside = lab.path('nar');
    await rename(nar, aside);
    const what = ['--store', dir, '--trusted-public-key', made.publicKey, '--key', lab.path('key')];
    const { process, ready } = await lab.service(['publish', ...what, '--valid-for', '6s', ...ALONE]);
    const first = await process.event('built');
    assert.equal(first['records'], 5);
    await rename(aside, nar);
    await process.event('built', ({ records }) => records === 6);
    const expires = Date.parse(String(first['expires']));
    await process.event('built', (event) => Date.parse(String(event['expires'])) > expires + 2_000);
    while (Date.now() <= expires) await sleep(expires - Date.now() + 1);
    const mirror = mirrorOf(String(ready['address']), `http://127.0.0.1:${String(ready['httpPort'])}`);
    const store = await lab.folder('store');
    const from = ['--publisher', mirror, '--no-upstream', '--no-copy', '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', made.root, '--store', store, ...from, ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    await assertSound(store, made.publicKey);
  });

  test('torrent writes the canonical .torrent and the magnet link of a NAR', async () => {
    const dir = await copyOfCache();
    const [info] = await readNarInfosSorted(dir);
    const out = lab.path('nar.torrent');
    const run = await lab.run(['torrent', info.storePath, '--store', dir, '--out', out]);
    assert.equal(run.status, 0, run.stderr);
    const decoded = bencode.decode(await readFile(out)) as { info: { name: Uint8Array; length: number } };
    assert.deepEqual(Object.keys(decoded), ['info']);
    assert.equal(`nar/${Buffer.from(decoded.info.name).toString()}`, info.url);
    assert.equal(decoded.info.length, info.fileSize);

    const hash = info.storePath.slice('/nix/store/'.length).slice(0, 32);
    const magnet = ['torrent', hash, '--store', dir, '--magnet', '--peer', '192.0.2.7:6881'];
    const plain = await lab.runPlain(magnet);
    assert.equal(plain.status, 0, plain.stderr);
    const { infoHash } = run.event('torrent');
    const name = info.url.slice('nar/'.length);
    const link = `magnet:?xt=urn:btih:${String(infoHash)}&dn=${name}&xl=${info.fileSize}&x.pe=192.0.2.7:6881\n`;
    assert.equal(plain.stdout, link);

    const cwd = await lab.folder('cwd');
    const here = await lab.runPlain(['torrent', hash, '--store', dir], { cwd });
    assert.equal(here.stdout, `${name}.torrent\n`);
    assert.deepEqual(await readdir(cwd), [`${name}.torrent`]);
  });
});

/** Narinfos of a cache, the largest NAR first. */
async function readNarInfosSorted(dir: string): Promise<readonly [NarInfo, ...NarInfo[]]> {
  const infos = [...(await readNarInfos(dir)).values()].toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0));
  const [first, ...rest] = infos;
  assert.ok(first !== undefined);
  return [first, ...rest];
}
