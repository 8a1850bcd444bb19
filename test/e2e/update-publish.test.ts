/** A machine that publishes its subscriptions, with updates beside a daemon, and its followers. */
import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { freePort } from '../support/free-port.ts';
import { nextGeneration } from '../support/generations.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, readNarInfos, requisites, type CliEvent, type CliProcess } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

const BLOBS = [...Array.from({ length: 9 }, () => 10_000), 100_000];
const PATHS = BLOBS.length * 2;

describe('publish = true, with subscriptions that say publish', { concurrency: 3 }, () => {
  let lab: Lab;
  let network: string;

  before(async () => {
    lab = await Lab.open();
    const { bootstrap } = await lab.dht(3);
    const nodes = bootstrap.map(({ host, port }) => `${host}:${port}`);
    network = `listen = "127.0.0.1"\nlan = false\ndht-bootstrap = ${JSON.stringify(nodes)}\n`;
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine with `publish = true`, and the address of its map. @param flags of every update */
  const publishing = async (
    keys: readonly string[],
    more: string,
    flags: readonly string[] = [],
  ): Promise<[Machine, string]> => {
    const machine = await Machine.make(lab, { flags });
    const key = lab.path('publisher.key');
    const trust = `trusted-public-key = ${JSON.stringify(keys)}\n`;
    await machine.configure(`publish = true\nkey = ${JSON.stringify(key)}\n${trust}${more}`);
    return [machine, String((await machine.run(['key'])).event('key')['address'])];
  };
  const built = (process: CliProcess): CliEvent[] => process.events.filter(({ event }) => event === 'built');
  const cacheOf = async ({ cacheDir }: MadeClosure): Promise<HttpCache> => lab.use(await startHttpCache(cacheDir));
  const fromCache = ({ url }: HttpCache): string => `from = ${JSON.stringify(url)}\n`;

  test('a daemon publishes another process’s update, and followers go from edition to edition', async () => {
    let made = await lab.closure(BLOBS);
    const extra = await lab.closure([4_000], 'extra');
    const caches = [await cacheOf(made), await cacheOf(extra)].map(({ url }) => url);
    const [machine, address] = await publishing(
      [made.publicKey, extra.publicKey],
      `${network}scope = "cohort"\nfrom = ${JSON.stringify(caches)}\n`,
    );
    const list = join(await lab.folder('lists'), 'lab');
    await writeFile(list, made.root);
    await machine.subscribe('lab', list, '--publish');
    await machine.subscribe('mine', extra.root);

    // The hash map names the port: if another process took it during the restart, there would be a new edition.
    const service = ['daemon', '--port', String(await freePort())];
    const { process: daemon, ready } = await machine.service(service);
    assert.equal(ready['address'], undefined);
    assert.match(
      String((await daemon.event('warning'))['message']),
      /no subscription that says publish has been complete so far/,
    );
    const first = (await machine.update()).event('built');
    const served = await daemon.event('built');
    assert.deepEqual([first['records'], served['records']], [PATHS, PATHS], 'what does not say publish is not in it');

    const peer = ['--peer', `127.0.0.1:${String(ready['port'])}`];
    const flags = ['--no-upstream', '--trusted-public-key', made.publicKey, ...peer];
    const follower = await Machine.make(lab, { flags });
    await follower.configure(network);
    await follower.subscribe('lab', `${address}#lab`);
    const got = await follower.updated();
    assert.deepEqual([got['outcome'], got['generation'], got['nars']], ['complete', 1, PATHS]);

    made = await nextGeneration(made, BLOBS.length - 1, 100_000);
    await writeFile(list, made.root);
    const second = (await machine.update()).event('built');
    assert.ok(Number(second['seq']) > Number(served['seq']));
    await daemon.event('built', ({ seq }) => seq === second['seq']);
    let news = await follower.updated();
    while (news['generation'] === 1) news = await follower.updated(); // the pointer is on its way into the DHT
    assert.deepEqual([news['outcome'], news['generation'], news['nars']], ['complete', 2, 2]);
    await assertSound(follower.store, made.publicKey);
    const [map = ''] = await readdir(join(machine.store, 'narswarm/generations'));
    assert.equal((await readdir(join(machine.store, 'narswarm/generations', map))).length, 2, 'for who still reads');

    const count = built(daemon).length;
    const same = (await machine.update()).event('built');
    assert.deepEqual([same['seq'], same['isNew'], same['hashedBytes']], [second['seq'], false, 0]);
    assert.equal((await follower.updated())['generation'], 2);
    assert.equal(built(daemon).length, count);

    // A new subscription needs no restart of the daemon, and a restart makes no new edition.
    await machine.subscribe('mine', extra.root, '--publish', '--replace');
    const both = (await machine.update()).event('built');
    assert.equal(both['records'], PATHS + 2);
    await daemon.event('built', ({ seq, records }) => seq === both['seq'] && records === PATHS + 2);
    assert.equal((await daemon.stop()).status, 0);
    const again = await machine.service(service);
    assert.equal(again.ready['address'], address);
    assert.equal(built(again.process)[0]?.['seq'], both['seq']);
    assert.equal((await machine.update()).event('built')['seq'], both['seq']);
  });

  test('only new NARs are hashed, and a dry run signs nothing', async () => {
    let made = await lab.closure(BLOBS);
    const known = await readNarInfos(made.cacheDir);
    const [machine] = await publishing([made.publicKey], fromCache(await cacheOf(made)), ['--scope', 'off']);
    const list = join(await lab.folder('lists'), 'lab');
    await writeFile(list, made.root);
    await machine.subscribe('lab', list, '--publish');
    const dry = await machine.update(['--dry-run']);
    assert.equal(dry.status, 0, dry.stderr);
    assert.equal(
      dry.events.some(({ event }) => event === 'built'),
      false,
    );
    const first = (await machine.update()).event('built');
    assert.equal(
      first['hashedBytes'],
      [...known.values()].reduce((sum, { fileSize = 0 }) => sum + fileSize, 0),
    );
    made = await nextGeneration(made, BLOBS.length - 1, 100_000);
    const added = [...(await readNarInfos(made.cacheDir))].filter(([hash]) => !known.has(hash));
    await writeFile(list, made.root);
    const second = (await machine.update()).event('built');
    assert.equal(
      second['hashedBytes'],
      added.reduce((sum, [, { fileSize = 0 }]) => sum + fileSize, 0),
    );
    assert.deepEqual([added.length, second['records']], [2, PATHS]);
  });

  test('imported paths are published even if the target already held them', async () => {
    const made = await lab.closure([20_000, 3_000]);
    const [machine] = await publishing([made.publicKey], fromCache(await cacheOf(made)), ['--scope', 'off']);
    const target = `local?root=${await lab.folder('target')}`;
    const other = await Machine.make(lab, { flags: [...ALONE, '--trusted-public-key', made.publicKey] });
    await other.configure(fromCache(await cacheOf(made)));
    await other.subscribe('lab', made.root, '--import', '--to', target);
    await other.updated();

    await machine.subscribe('lab', made.root, '--import', '--to', target);
    const none = await machine.update();
    assert.equal(none.event('subscription')['nars'], 0);
    assert.equal(none.status, 0, none.stderr);
    assert.match(
      String(none.event('warning')['message']),
      /no subscription that says publish has been complete so far, .* added: add one with narswarm subscribe --publish, or run narswarm add\)$/,
    );
    await machine.subscribe('gone', `/nix/store/${'0'.repeat(32)}-gone`, '--publish');
    const early = (await machine.update(['gone'])).event('warning');
    assert.match(String(early['message']), /nothing was added: complete one with narswarm update, or run/);
    await machine.run(['unsubscribe', 'gone']);
    await machine.subscribe('lab', made.root, '--import', '--to', target, '--publish', '--replace');
    const { process: daemon } = await machine.service(['daemon', '--scope', 'lan', ...ALONE]);
    await daemon.event('warning', ({ message }) => String(message).includes('its NAR is not in the store'));
    const run = await machine.update();
    assert.deepEqual([run.event('built')['records'], run.event('built')['leftOut']], [4, 0], run.stderr);
    assert.equal((await daemon.event('built'))['records'], 4);
    assert.equal((await assertSound(machine.store, made.publicKey)).nars.length, 4);
    assert.equal(requisites(target, made.root).length, 4);
  });
});
