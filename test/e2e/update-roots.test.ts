/** Imported paths stay: nix-collect-garbage between an update and its use takes nothing of it. */
import assert from 'node:assert/strict';
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { StorePath } from '../../src/nix/brands.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { listRoots, type KeptRoot } from '../../src/subscription/room/gc-roots.ts';
import { collectGarbageOf, collectingNix, isValidIn } from '../support/collect-garbage.ts';
import { ALONE, assertFailure, Lab, requisites, type CliEvent } from '../support/lab.ts';
import { startNixDaemon } from '../support/nix-daemon.ts';
import {
  importingMachine,
  updated,
  type ImportingMachine,
  type Machine,
  type Subscribed,
} from '../support/update-lab.ts';

const BLOBS = [5_000, 20_000];
const PATHS = 2 * BLOBS.length;

describe('after an update', { concurrency: 3 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = (more: Partial<Subscribed> = {}): Promise<ImportingMachine> => importingMachine(lab, BLOBS, more);
  const updateWell = async (machine: Machine, args: readonly string[] = [], env = {}): Promise<void> => {
    const run = await machine.update(args, { env });
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([updated(run)['outcome'], updated(run)['notes']], ['complete', []]);
  };
  const linksOf = ({ store }: Machine): Promise<KeptRoot[]> =>
    listRoots({ stateDir: join(store, 'narswarm') }, 'desktop');

  test('Nix collects nothing of it; without a root, it does', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.equal(requisites(target, made.root).length, PATHS);

    const bare = `local?root=${await lab.folder('bare')}`;
    const from = ['--from', made.cacheDir, '--trusted-public-key', made.publicKey, ...ALONE];
    const fetched = await lab.run(['fetch', made.root, '--store', machine.store, '--to', bare, ...from]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal(requisites(bare, made.root).length, PATHS);
    await collectGarbageOf(lab, bare);
    assert.ok(!isValidIn(bare, made.root));
  });

  test('the paths stay if Nix collects right after each of its copies', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine, [], await collectingNix(lab, target));
    assert.equal(requisites(target, made.root).length, PATHS);
  });

  test('the paths stay if the update is killed after the import, before it has recorded anything', async () => {
    const { made, machine, target } = await scene();
    const killed = await machine.update(['--import-with', 'nix-copy'], {
      env: await collectingNix(lab, target, 'kill -9 $PPID'),
    });
    assert.notEqual(killed.status, 0);
    assert.equal(requisites(target, made.root).length, PATHS);
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.equal(requisites(target, made.root).length, PATHS);
  });

  test('nothing stays of a subscription that is removed after its first update was killed', async () => {
    const { machine, target } = await scene();
    const env = await collectingNix(lab, target, 'kill -9 $PPID');
    assert.notEqual((await machine.update(['--import-with', 'nix-copy'], { env })).status, 0);
    assert.equal((await linksOf(machine)).length, 1);
    await machine.subscribe({});
    assert.equal((await machine.update()).status, 0);
    assert.deepEqual(await linksOf(machine), []);
  });

  test('paths that the store held before, and links that are lost, get roots too', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine);
    await rm(join(machine.store, 'narswarm', 'gcroots'), { recursive: true });
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.equal(requisites(target, made.root).length, PATHS);
  });

  test('older generations stay as keep-generations says, and are collected after that', async () => {
    const { made, machine, target, next } = await scene();
    await updateWell(machine);
    const second = await next();
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.deepEqual(
      [made.root, second].map((path) => isValidIn(target, path)),
      [true, true],
    );
    const third = await next();
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.deepEqual(
      [made.root, second, third].map((path) => isValidIn(target, path)),
      [false, true, true],
    );
    const { roots } = await machine.statusOf('desktop');
    assert.deepEqual(roots, [
      { generation: 3, path: third, link: linkTo(machine, 3, third) },
      { generation: 2, path: second, link: linkTo(machine, 2, second) },
    ]);
    const { stdout } = await lab.runPlain(['status', '--store', machine.store], {
      env: { NARSWARM_CONFIG: machine.config },
    });
    assert.match(stdout, /^ {2}gc roots {2}2 of generations 3, 2, in .*gcroots\/desktop$/m);
    await updateWell(machine, ['--keep-generations', '0']);
    assert.deepEqual(
      (await linksOf(machine)).map(({ path }) => path),
      [third],
    );
  });

  test('the roots of the source before stay until the new source is complete', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine);
    const other = await lab.closure([5_000], 'other');
    const subscribed = { source: other.root, import: true, to: target };
    await machine.subscribe({ desktop: subscribed });
    assert.notEqual((await machine.update()).status, 0, 'no cache has it');
    await collectGarbageOf(lab, target);
    assert.ok(isValidIn(target, made.root));
    const trust = ['--from', other.cacheDir, '--trusted-public-key', other.publicKey];
    await updateWell(machine, [...trust, '--keep-generations', '0']);
    assert.deepEqual(
      (await linksOf(machine)).map(({ path }) => path),
      [other.root],
    );
  });

  test('a disk that is full ends the update, and the next one makes the roots', async () => {
    const { made, machine, target } = await scene();
    await mkdir(join(machine.store, 'narswarm'), { recursive: true });
    await writeFile(join(machine.store, 'narswarm', 'gcroots'), '');
    assertFailure(await machine.update(), 7, 'STORE_UNWRITABLE', /gcroots/);
    assert.ok(!isValidIn(target, made.root), 'nothing is imported without a root');
    await rm(join(machine.store, 'narswarm', 'gcroots'));
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.ok(isValidIn(target, made.root));
  });

  test('a subscription that is removed, or no longer imported, keeps nothing', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine);
    const env = { NARSWARM_CONFIG: machine.config };
    const run = await lab.runPlain(['unsubscribe', 'desktop', '--store', machine.store], { env });
    assert.match(run.stdout, /removed desktop from .*, and its 1 GC root: Nix may collect the paths now/);
    await collectGarbageOf(lab, target);
    assert.ok(!isValidIn(target, made.root));

    await machine.subscribe({ desktop: { source: made.root, import: true, to: target } });
    await updateWell(machine);
    await machine.subscribe({ desktop: { source: made.root } });
    await updateWell(machine);
    assert.deepEqual(await linksOf(machine), []);

    await machine.subscribe({ desktop: { source: made.root, import: true, to: target } });
    await updateWell(machine);
    await machine.subscribe({});
    assert.equal((await machine.update()).status, 0);
    assert.deepEqual(await linksOf(machine), []);
  });

  test('what somebody has put beside the links of a subscription stays', async () => {
    const { machine } = await scene();
    await updateWell(machine);
    const folder = join(machine.store, 'narswarm', 'gcroots', 'desktop');
    const elsewhere = await lab.folder('elsewhere');
    await writeFile(join(elsewhere, 'thesis'), 'years of work');
    await symlink(elsewhere, join(folder, 'mine'));
    await updateWell(machine);
    assert.deepEqual(await readdir(elsewhere), ['thesis']);
  });

  test('it is kept in the default store, also through the Nix daemon', async () => {
    const { made, machine, target } = await scene({ to: undefined });
    await updateWell(machine, [], { NIX_REMOTE: target });
    await collectGarbageOf(lab, target);
    assert.equal(requisites(target, made.root).length, PATHS);

    const served = `local?root=${await lab.folder('served')}`;
    const env = await startNixDaemon(lab, [`trusted-public-keys = ${made.publicKey}`, 'trusted-users ='], served);
    await rm(join(machine.store, 'narswarm', 'gcroots'), { recursive: true });
    await updateWell(machine, [], env);
    await collectGarbageOf(lab, served);
    assert.equal(requisites(served, made.root).length, PATHS);
  });

  test('Nix’s reason is told if it makes no root', async () => {
    const { made, machine, target } = await scene();
    const bin = await lab.folder('bin');
    await writeFile(join(bin, 'nix-daemon'), '#!/bin/sh\necho no roots today >&2\nexit 1\n', { mode: 0o755 });
    const run = await machine.update([], { env: { PATH: `${bin}:${process.env['PATH'] ?? ''}` } });
    assert.equal(run.status, 0, run.stderr);
    const told = String(run.event('warning')['message']);
    assert.match(told, /^desktop: nothing keeps the imported paths from nix-collect-garbage: .*no roots today/);
    assert.ok(isValidIn(target, made.root));
    await updateWell(machine);
    await collectGarbageOf(lab, target);
    assert.ok(isValidIn(target, made.root));
  });

  test('doctor tells whether it is kept, and whether it was collected', async () => {
    const { made, machine, target } = await scene();
    await updateWell(machine);
    const roots = async (): Promise<CliEvent | undefined> => {
      const flags = ['--store', machine.store, '--no-lan', '--no-dht', '--scope', 'off'];
      const run = await lab.run(['doctor', ...flags], { env: { NARSWARM_CONFIG: machine.config } });
      return run.events.find(({ event, check }) => event === 'finding' && check === 'roots');
    };
    assert.deepEqual(
      [(await roots())?.['verdict'], (await roots())?.['message']],
      ['good', 'desktop: GC roots keep its path'],
    );
    await rm(join(machine.store, 'narswarm', 'gcroots'), { recursive: true });
    const loose = await roots();
    assert.deepEqual([loose?.['verdict'], loose?.['message']], ['unsure', `desktop: no GC root keeps ${made.root}`]);
    await collectGarbageOf(lab, target);
    const gone = await roots();
    assert.deepEqual([gone?.['verdict'], gone?.['message']], ['bad', `desktop: Nix has collected ${made.root}`]);
  });

  function linkTo({ store }: Machine, generation: number, path: StorePath): string {
    return join(store, 'narswarm', 'gcroots', 'desktop', `generation-${generation}`, baseNameOf(path));
  }
});
