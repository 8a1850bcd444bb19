/** Commands that only read leave nothing behind; a failed publish makes no key; a store has one daemon. */
import assert from 'node:assert/strict';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, FIXTURE_ROOT, fixtureKey, Lab, type Run } from '../support/lab.ts';

describe('no traces', () => {
  let lab: Lab;
  let cache: HttpCache;
  let key: readonly string[];

  before(async () => {
    lab = await Lab.open();
    cache = lab.use(await startHttpCache(await lab.fixtureCache()));
    key = ['--trusted-public-key', await fixtureKey()];
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Lists all files below a folder. Returns undefined if it does not exist. */
  const contents = async (dir: string): Promise<readonly string[] | undefined> =>
    readdir(dir, { recursive: true }).then(
      (names) => names.toSorted(),
      () => undefined,
    );

  test('status, gc and dry runs make no folder, in a store, in a plain cache, and without either', async () => {
    const tmp = await lab.folder('tmp');
    const target = lab.path('target');
    const from = ['--from', cache.url, ...key, ...ALONE];
    const subscribed = await lab.run(['subscribe', 'x', FIXTURE_ROOT, '--import', '--to', target]);
    assert.equal(subscribed.status, 0, subscribed.stderr);
    const filled = lab.path('store');
    assert.equal((await lab.run(['fetch', FIXTURE_ROOT, ...from, '--no-copy', '--store', filled])).status, 0);
    for (const store of [filled, await lab.fixtureCache(), lab.path('none')]) {
      const isThere = (await contents(store)) !== undefined;
      for (const args of [
        ['status', 'x'],
        ['gc'],
        ['gc', '--max-size', '1G', '--dry-run'],
        ['update', '--dry-run', ...from],
        ['fetch', FIXTURE_ROOT, '--dry-run', ...from, '--to', target],
      ]) {
        const untouched = await contents(store);
        const run = await lab.run([...args, '--store', store], { env: { TMPDIR: tmp } });
        assert.equal(run.status, args[0] === 'gc' && !isThere ? 7 : 0, `${args.join(' ')}: ${run.stderr}`);
        assert.deepEqual(await contents(store), untouched, args.join(' '));
      }
    }
    assert.deepEqual([await contents(tmp), await contents(target)], [[], undefined]);
  });

  test('a dry run beside a partial store lists exactly the NARs that a run fetches', async () => {
    const store = lab.path('store');
    const from = ['--from', cache.url, ...key, ...ALONE, '--no-copy', '--store', store];
    await lab.run(['fetch', FIXTURE_ROOT, ...from]);
    const [first = ''] = await readdir(join(store, 'nar'));
    await rm(join(store, 'nar', first));
    const dry = await lab.run(['fetch', FIXTURE_ROOT, ...from, '--dry-run']);
    assert.equal(dry.event('plan')['nars'], 1, dry.stderr);
    assert.equal((await lab.run(['fetch', FIXTURE_ROOT, ...from])).event('done')['nars'], 1);
  });

  test('a publish that fails makes no key', async () => {
    const publish = (...args: string[]): Promise<Run> =>
      lab.run(['publish', '--key', keyFile, ...key, ...ALONE, ...args]);
    const keyFile = join(await lab.folder('key'), 'made', 'publisher.key');
    const empty = await lab.folder('empty');
    await mkdir(join(empty, 'nar'));
    assertFailure(await publish('--store', empty), 7, 'STORE_CORRUPT', /not a binary cache/);
    const store = ['--store', await lab.fixtureCache()];
    assertFailure(await publish(...store, '--root', `x=/nix/store/${'a'.repeat(32)}-x`), 3, 'NARINFO_MISSING', /a{32}/);
    assertFailure(await publish(...store, '--http-port', String(cache.port)), 9, 'LISTEN_FAILED', /--http-port/);
    assertFailure(await publish(...store, '--port', String(cache.port)), 9, 'LISTEN_FAILED', /--port/);
    assert.equal(await contents(join(keyFile, '..', '..')).then((names) => names?.length), 0);
    const once = await publish(...store, '--once');
    assert.equal(once.status, 0, once.stderr);
    assert.deepEqual(await contents(join(keyFile, '..')), ['publisher.key']);
  });

  test('a daemon says that it has made its store, and makes none below a missing folder', async () => {
    const flags = [...key, ...ALONE];
    const missing = lab.path('missing');
    const refused = await lab.run(['daemon', '--store', join(missing, 'store'), ...flags]);
    assertFailure(
      refused,
      2,
      'USAGE',
      new RegExp(`--store: neither ${missing}/store nor its parent folder exists.*make`),
    );
    const variable = await lab.run(['daemon', ...flags], { env: { NARSWARM_STORE: join(missing, 'store') } });
    assertFailure(variable, 2, 'USAGE', /NARSWARM_STORE: neither/);
    assert.equal(await contents(missing), undefined);
    const store = lab.path('store');
    const warning = async (): Promise<Readonly<Record<string, unknown>> | undefined> => {
      const { process: daemon } = await lab.service(['daemon', '--store', store, ...flags]);
      const { events } = await daemon.stop('SIGTERM');
      return events.find(({ kind }) => kind === 'made-store');
    };
    const said = await warning();
    assert.equal(said?.['path'], store);
    assert.match(String(said['message']), /did not exist: this daemon has made it.*correct --store$/);
    assert.equal(await warning(), undefined);
    const STATE_DIRECTORY = join(missing, 'state'); // as systemd names the folder of a service
    const { process: service } = await lab.service(['daemon', ...flags], { env: { STATE_DIRECTORY } });
    const { events, status } = await service.stop('SIGTERM');
    assert.deepEqual([events.filter(({ event }) => event === 'warning'), status], [[], 0]);
    assert.ok((await contents(join(STATE_DIRECTORY, 'store')))?.includes('nix-cache-info'));
  });

  test('the second daemon on a store warns, and may not publish', async () => {
    const args = ['daemon', '--store', lab.path('store'), ...key, ...ALONE];
    const { process: first } = await lab.service(args);
    const says = new RegExp(`another narswarm daemon \\(process ${first.pid}\\) serves .*another --store`);
    const { process: second } = await lab.service(args);
    assert.match(String((await second.stop('SIGTERM')).event('warning')['message']), says);
    const publishing = ['--publish', '--key', lab.path('key'), '--http-port', '0'];
    assertFailure(await lab.run([...args, ...publishing]), 7, 'STORE_BUSY', says);
    await first.stop('SIGKILL');
    const { process: next } = await lab.service(args);
    assert.equal((await next.stop('SIGTERM')).status, 0, 'one that was killed stands in nobody’s way');
  });
});
