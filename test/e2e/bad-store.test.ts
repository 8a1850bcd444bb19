/** File stores that cannot be written: full, or read-only. Small tmpfs file systems stand in for the disks. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rename, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, type Run } from '../support/lab.ts';
import { Machine } from '../support/update-lab.ts';
import { inNamespace } from '../support/namespace.ts';

/** Mounts a file system for the command only (so nothing is left to unmount), and keeps its contents. */
const SCRIPT = `mount -t tmpfs -o "$1" tmpfs "$0" || exit 99
if [ -n "$2" ]; then mount -o remount,"$2" "$0" || exit 99; fi
dir=$0; shift 2; "$@"; status=$?; cp -r "$dir/." "$dir.after"; exit $status`;

describe('a store that cannot be written', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let upstream: HttpCache;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([1_500_000, 60_000, 5_000]);
    upstream = lab.use(await startHttpCache(made.cacheDir));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Runs a command whose `--store` lies on a tmpfs with these mount options. */
  const onTmpfs = async (
    options: string,
    args: readonly string[],
    remount = '',
    env: Readonly<Record<string, string>> = {},
  ): Promise<Run & { store: string; left: string }> => {
    const store = await lab.folder('tmpfs');
    const left = `${store}.after`;
    assert.equal(spawnSync('mkdir', [left]).status, 0);
    const wrapper = [...inNamespace('-m'), 'sh', '-c', SCRIPT, store, options, remount];
    const run = await lab.run([...args, '--store', store, '--trusted-public-key', made.publicKey], { wrapper, env });
    assert.notEqual(run.status, 99, `cannot mount a tmpfs: ${run.stderr}`);
    return { ...run, store, left };
  };

  test('a disk that fills up while a cache sends is reported', async () => {
    const run = await onTmpfs('size=1m', ['fetch', made.root, '--from', upstream.url, '--no-copy']);
    assertFailure(run, 7, 'STORE_FULL', new RegExp(`no space left on the device that holds ${run.store}/`));
    assert.deepEqual((await assertSound(run.left, made.publicKey)).narInfos, []);
  });

  test('a disk that fills up while a peer sends is reported', async () => {
    const { mirror } = await lab.publisher(made, ALONE);
    const args = ['fetch', made.root, '--publisher', mirror, '--no-upstream', '--no-copy', ...ALONE];
    const run = await onTmpfs('size=1m', args);
    assertFailure(run, 7, 'STORE_FULL', new RegExp(`no space left on the device that holds ${run.store}/`));
    assert.deepEqual((await assertSound(run.left, made.publicKey)).narInfos, []);
  });

  test('if the disk fills up while narinfos are written, no narinfo lacks a reference', async () => {
    // Inodes for the folders and the NARs, and for some of the narinfos.
    const run = await onTmpfs('size=8m,nr_inodes=18', ['fetch', made.root, '--from', upstream.url, '--no-copy']);
    assertFailure(run, 7, 'STORE_FULL', new RegExp(`no space left on the device that holds ${run.store}/`));
    const { narInfos, nars } = await assertSound(run.left, made.publicKey);
    assert.equal(nars.length, 6);
    assert.ok(narInfos.length > 0 && narInfos.length < 6, String(narInfos));
  });

  test('a disk that fills up while Nix exports is reported', async () => {
    const run = await onTmpfs('size=1m', ['add', made.root], '', { NIX_REMOTE: made.buildStore });
    assertFailure(
      run,
      7,
      'STORE_FULL',
      new RegExp(`no space left on the device that holds ${run.store}/.*to continue`),
    );
    assert.deepEqual(await assertSound(run.left, made.publicKey), { narInfos: [], nars: [] });
  });

  test('a read-only folder is reported', async () => {
    const fetch = await onTmpfs('size=1m', ['fetch', made.root, '--from', upstream.url, '--no-copy'], 'ro');
    assertFailure(fetch, 7, 'STORE_UNWRITABLE', new RegExp(`cannot write ${fetch.store}.*EROFS.*another --store`));
    const daemon = await onTmpfs('size=1m', ['daemon', ...ALONE], 'ro');
    assertFailure(daemon, 7, 'STORE_UNWRITABLE', new RegExp(`cannot write ${daemon.store}.*EROFS`));
    const add = await onTmpfs('size=1m', ['add', made.root], 'ro', { NIX_REMOTE: made.buildStore });
    assertFailure(add, 7, 'STORE_UNWRITABLE', new RegExp(`cannot write ${add.store}.*another --store`));
  });

  /** A cache that sends NARs so slowly that the store can change meanwhile. */
  const slowCache = async (): Promise<HttpCache> => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    cache.faults = [{ match: /\.nar/, kind: 'slow', rateBytesPerSec: 40_000, times: 6 }];
    return cache;
  };
  const untilSending = async (cache: HttpCache): Promise<void> => {
    while (!cache.requests.some(({ url, bytes }) => /\.nar/.test(url) && bytes > 0)) await sleep(10);
  };
  /** Updates two subscriptions while the store disappears during the first. Returns the reports. */
  const updateWhile = async (
    wrapper: (store: string, trigger: string) => string[],
    happen: (store: string, trigger: string) => Promise<void>,
  ): Promise<Run> => {
    const cache = await slowCache();
    const [store, trigger] = [await lab.folder('store'), lab.path('trigger')];
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
    const two = { first: { source: made.root }, second: { source: made.root } };
    const machine = await Machine.of(lab, two, flags, store);
    const update = machine.start([], { wrapper: wrapper(store, trigger) });
    await untilSending(cache);
    await happen(store, trigger);
    return update.end();
  };
  const assertToldOnce = (run: Run): void => {
    assertFailure(run, 7, 'STORE_UNWRITABLE', /2 of 2 subscriptions not complete/);
    assert.deepEqual(
      run.events.filter(({ event }) => event === 'subscription').map(({ name, code }) => [name, code]),
      [
        ['first', 'STORE_UNWRITABLE'],
        ['second', 'STORE_UNWRITABLE'],
      ],
    );
    assert.doesNotMatch(run.stderr, /SuppressedError|^ {4}at /m);
  };

  test('each subscription reports in one sentence that the store turned read-only', async () => {
    const script = `mount -t tmpfs tmpfs "$0" || exit 99; trigger=$1; shift; "$@" & pid=$!
while [ ! -e "$trigger" ]; do sleep 0.02; done
until mount -o remount,ro "$0" 2>/dev/null; do kill -0 $pid || exit 99; sleep 0.01; done; wait $pid`; // busy while a file is written
    const run = await updateWhile(
      (store, trigger) => [...inNamespace('-m'), 'sh', '-c', script, store, trigger],
      (_, trigger) => writeFile(trigger, ''),
    );
    assertToldOnce(run);
  });

  test('each subscription reports in one sentence that the store vanished', async () => {
    const run = await updateWhile(
      () => [],
      (store) => rename(store, `${store}.elsewhere`),
    );
    assertToldOnce(run);
  });
});
