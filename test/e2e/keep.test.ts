/** Keeping the disk: gc and verify as commands, beside a daemon that seeds and a fetch that is under way. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { writeState } from '../../src/subscription/state/state.ts';
import { answersHandshake, untilServed } from '../support/handshake.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, narBytesOf, readNarInfos, type Run } from '../support/lab.ts';

describe('keeping the disk', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;
  let trust: readonly string[];
  let totalBytes: number;
  let infos: readonly NarInfo[];

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_500_000, 60_000, 5_000]);
    upstream = lab.use(await startHttpCache(made.cacheDir));
    trust = ['--trusted-public-key', made.publicKey];
    totalBytes = await narBytesOf(made.cacheDir);
    infos = [...(await readNarInfos(made.cacheDir)).values()].toSorted((a, b) => (b.fileSize ?? 0) - (a.fileSize ?? 0));
  });
  after(() => lab[Symbol.asyncDispose]());

  const fetch = (store: string, args: readonly string[] = []): Promise<Run> =>
    lab.run(['fetch', made.root, '--store', store, '--no-copy', '--from', upstream.url, ...trust, ...ALONE, ...args]);
  const filled = async (): Promise<string> => {
    const store = await lab.folder('store');
    const run = await fetch(store);
    assert.equal(run.status, 0, run.stderr);
    return store;
  };
  const rot = async (path: string): Promise<void> => {
    const { atime, mtime } = await stat(path);
    const bytes = await readFile(path);
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(path, bytes);
    await utimes(path, atime, Math.floor(mtime.getTime()) / 1000 + 0.0005);
  };
  const large = (): NarInfo => infos[0]!;
  const infoHashOf = async (path: string): Promise<string> => {
    const run = await lab.run(['torrent', path, '--store', made.cacheDir, '--magnet']);
    return String(run.event('torrent')['infoHash']);
  };

  test('gc lists the paths beyond a budget, then removes them; pins and subscriptions keep their closures', async () => {
    const store = await filled();
    const gc = (...args: string[]): Promise<Run> => lab.run(['gc', '--store', store, ...args]);
    const plain = await lab.runPlain(['gc', '--store', store]);
    assert.equal(plain.status, 0, plain.stderr);
    assert.match(plain.stderr, /--max-size 0 would free 1\.\d+ MB that nothing keeps/);
    const dry = await gc('--max-size', '0', '--dry-run');
    assert.equal(dry.events.filter(({ event }) => event === 'remove').length, 6);
    assert.deepEqual(dry.event('done')['removed'], { paths: 6, nars: 6, bytes: totalBytes });

    const pinned = await lab.run(['pin', made.root, '--store', store]);
    assert.deepEqual([pinned.status, pinned.event('pinned')['path']], [0, made.root]);
    const over = await gc('--max-size', '1kB');
    assert.match(
      String(over.event('warning')['message']),
      /the kept paths take 1\.\d+ MB, more than --max-size 1\.00 kB/,
    );
    assert.deepEqual([over.status, over.event('done')['isOver']], [0, true]);
    assert.equal((await lab.runPlain(['pin', '--store', store])).stdout, `${made.root}\n`);
    assert.equal((await lab.run(['unpin', made.root, '--store', store])).status, 0);
    assertFailure(await lab.run(['unpin', made.root, '--store', store]), 3, 'NOT_FOUND', /is not pinned/);

    const state = await FileStore.open(store, { create: false });
    const generation = { wanted: '', at: new Date().toISOString(), complete: true };
    const blob = parseStorePath(large().storePath);
    await writeState(state, {
      name: 'nightly',
      source: 'lab',
      generations: [
        { ...generation, number: 2, roots: [] },
        { ...generation, number: 1, roots: [blob] },
      ],
      missing: [],
      missingCount: 0,
      notes: [],
    });
    assert.equal((await gc('--max-size', '0')).status, 0);
    assert.deepEqual((await assertSound(store, made.publicKey)).narInfos, [blob.slice('/nix/store/'.length)]);
    await writeFile(join(store, 'narswarm/subscriptions/nightly.json'), '{');
    assertFailure(await gc('--max-size', '0'), 7, 'STORE_CORRUPT', /nightly\.json is damaged/);
    await rm(join(store, 'narswarm/subscriptions/nightly.json'));
    assert.equal((await gc('--max-size', '0', '--keep-generations', '0')).status, 0);
    assert.deepEqual(await readdir(join(store, 'nar')), []);
    assertFailure(await gc('--keep-generations', 'all').then(asFailure), 2, 'USAGE', /whole number/);
  });

  test('gc beside a daemon keeps paths that were just served, and the others are no longer served', async () => {
    const store = await filled();
    const { ready } = await lab.service([
      'daemon',
      '--store',
      store,
      ...trust,
      '--share-keys',
      made.publicKey,
      ...ALONE,
    ]);
    const port = Number(ready['port']);
    const served = await infoHashOf(large().storePath);
    await untilServed(port, served);
    const run = await lab.run(['gc', '--store', store, '--max-size', '0']);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual((await assertSound(store, made.publicKey)).narInfos, [
      large().storePath.slice('/nix/store/'.length),
    ]);
    assert.equal(await answersHandshake(port, served), true);
    assert.equal(await answersHandshake(port, await infoHashOf(made.root)), false);
  });

  test('gc beside a fetch removes nothing that the fetch needs', async () => {
    const store = await filled();
    await rm(join(store, large().url));
    const own = lab.use(await startHttpCache(made.cacheDir));
    own.faults = [{ match: /\.nar\.xz$/, kind: 'stall', afterBytes: 1000 }];
    const spare = lab.use(await startHttpCache(made.cacheDir)); // asked if the collection takes long
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    spare.faults = [{ match: /\.nar\.xz$/, kind: 'hold', until }];
    const from = ['--from', own.url, '--from', spare.url];
    const fetching = lab.start(['fetch', made.root, '--store', store, '--no-copy', ...from, ...trust, ...ALONE]);
    await fetching.event('plan');
    const run = await lab.run(['gc', '--store', store, '--max-size', '0']);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('done')['removed'], { paths: 0, nars: 0, bytes: 0 });
    assert.equal((await readdir(join(store, 'nar'))).length, 5);
    await own.stop();
    release();
    const done = await fetching.end();
    assert.equal(done.status, 0, done.stderr);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 6);
  });

  test('verify finds bit rot and quarantines it, and --repair fetches it again', async () => {
    const store = await filled();
    const small = infos.at(-1)!;
    await rot(join(store, large().url));
    await writeFile(join(store, `${small.storePath.slice(11, 43)}.narinfo`), 'hello');
    const found = await lab.run(['verify', '--store', store]);
    assertFailure(
      found,
      7,
      'STORE_CORRUPT',
      /has damaged files that are not repaired, .*: run narswarm verify --repair/,
    );
    const damaged = found.events.filter(({ event }) => event === 'damaged').map(({ file }) => file);
    assert.deepEqual(new Set(damaged), new Set([large().url, `${small.storePath.slice(11, 43)}.narinfo`]));

    await rot(join(store, infos[1]!.url));
    const offline = ['--no-upstream', ...ALONE];
    const lost = await lab.run(['verify', '--store', store, '--repair', ...trust, ...offline]);
    assert.equal(lost.status, 7, lost.stderr);
    assert.match(lost.stderr, /name a cache or a publisher that has them/);

    // a fetch replaces a file that an earlier run quarantined
    assert.equal((await fetch(store)).status, 0);
    const top = infos.find(({ storePath }) => storePath === made.root)!;
    const other = infos.find(
      (info) => info !== top && top.references.includes(info.storePath.slice('/nix/store/'.length)),
    )!;
    for (const info of [large(), top]) await rot(join(store, info.url));
    await rm(join(store, other.url));
    const run = await lab.run([
      'verify',
      '--store',
      store,
      '--deep',
      '--repair',
      '--from',
      upstream.url,
      ...trust,
      ...ALONE,
    ]);
    assert.equal(run.status, 0, run.stderr + run.stdout);
    const repaired = run.events.filter(({ event }) => event === 'repaired');
    assert.deepEqual(
      new Set(repaired.map(({ path, from }) => `${String(path)} ${String(from)}`)),
      new Set([large(), top, other].map(({ storePath }) => `${storePath} ${upstream.url}`)),
    );
    assert.deepEqual([run.event('done')['repaired'], run.event('done')['absent']], [3, 0]);
    assert.equal((await assertSound(store, made.publicKey)).nars.length, 6, 'what was removed by hand is back, too');

    // A NAR that the catalogue does not list may never have been here, since the target held its path.
    await rm(join(store, other.url));
    const listed = join(store, 'narswarm/catalogue.jsonl');
    const lines = (await readFile(listed, 'utf8')).split('\n').filter((line) => !line.includes(other.storePath));
    await writeFile(listed, lines.join('\n'));
    const again = await lab.run(['verify', '--store', store, '--repair', '--from', upstream.url, ...trust, ...ALONE]);
    assert.deepEqual([again.status, again.event('done')['absent']], [0, 1]);
    await rm(listed);
    assert.equal(
      (await lab.run(['verify', '--store', store])).event('done')['absent'],
      1,
      'without any catalogue, too',
    );
    assert.equal((await readdir(join(store, 'nar'))).length, 5);
    assert.equal((await lab.run(['verify', '--store', store, '--deep', ...trust])).status, 0);
  });

  test('verify --repair fetches files again that an earlier run quarantined or somebody removed', async () => {
    const store = await filled();
    const narInfoOf = ({ storePath }: NarInfo): string => `${storePath.slice(11, 43)}.narinfo`;
    const below = (above: NarInfo): NarInfo[] =>
      infos.filter((info) => info !== above && above.references.includes(info.storePath.slice('/nix/store/'.length)));
    const top = infos.find(({ storePath }) => storePath === made.root)!;
    const middle = below(top).find((info) => below(info).length > 0)!;
    const [lowest] = below(middle);
    assert.ok(lowest !== undefined);
    await writeFile(join(store, narInfoOf(top)), 'junk');
    for (const info of [middle, lowest]) await rm(join(store, narInfoOf(info)));
    const verify = (...args: string[]): Promise<Run> => lab.run(['verify', '--store', store, ...args]);
    assert.equal((await verify()).status, 7);
    assertFailure(await verify(), 7, 'STORE_CORRUPT', /such as \S+\.narinfo: run narswarm verify --repair/);
    const run = await verify('--repair', '--from', upstream.url, ...trust, ...ALONE);
    assert.equal(run.status, 0, run.stderr + run.stdout);
    const { damaged, repaired } = run.event('done');
    assert.equal(damaged, repaired);
    const { narInfos } = await assertSound(store, made.publicKey);
    assert.equal(narInfos.length, 6);
    assert.equal((await verify('--deep', ...trust)).status, 0);
  });

  test('killing verify at any moment damages nothing else', async () => {
    const store = await filled();
    await rot(join(store, large().url));
    const verifying = lab.start(['verify', '--store', store]);
    await verifying.event('damaged');
    await verifying.stop('SIGKILL');
    const withoutNar = [large().storePath.slice('/nix/store/'.length)];
    assert.equal((await assertSound(store, made.publicKey, { withoutNar })).nars.length, 5);
  });
});

/** Commander tells people more than one line about a malformed option. */
function asFailure(run: Run): Run {
  return { ...run, stderr: `${run.stderr.split('\n')[0] ?? ''}\n` };
}
