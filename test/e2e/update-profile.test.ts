/** Imported generations in a profile, and the changes of a switch, beside the real Nix. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { PackageChange } from '../../src/nix/package-changes.ts';
import { collectGarbageOf, isValidIn } from '../support/collect-garbage.ts';
import { assertFailure, Lab } from '../support/lab.ts';
import { importingMachine, updated, type ImportingMachine, type Machine } from '../support/update-lab.ts';

const BLOBS = [5_000, 20_000];

describe('an imported subscription', { concurrency: 2 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = async (): Promise<ImportingMachine & { readonly profile: string }> => {
    const profile = join(await lab.folder('profiles'), 'night');
    return { ...(await importingMachine(lab, BLOBS, { profile })), profile };
  };
  const update = async (machine: Machine) => {
    const run = await machine.update();
    assert.equal(run.status, 0, run.stderr);
    return run;
  };
  const generationsOf = async (profile: string): Promise<string[]> => {
    const names = (await readdir(join(profile, '..'))).filter((name) => name.endsWith('-link'));
    return Promise.all(names.toSorted().map((name) => readlink(join(profile, '..', name))));
  };

  test('becomes generations of its profile, which keep it, too', async () => {
    const { made, machine, target, profile, next } = await scene();
    assert.equal(updated(await update(machine))['isInProfile'], true);
    assert.equal(updated(await update(machine))['isInProfile'], false);
    assert.deepEqual(await generationsOf(profile), [made.root]);
    const second = await next();
    await update(machine);
    assert.deepEqual(await generationsOf(profile), [made.root, second]);
    assert.equal(await readlink(profile), 'night-2-link');

    execFileSync('nix-env', ['--profile', profile, '--store', target, '--rollback'], { stdio: 'ignore' });
    await update(machine);
    assert.equal(await readlink(profile), 'night-1-link', 'the user has gone back');
    await rm(join(machine.store, 'narswarm', 'gcroots'), { recursive: true });
    await collectGarbageOf(lab, target);
    assert.deepEqual(
      [made.root, second].map((path) => isValidIn(target, path)),
      [true, true],
    );
  });

  test('fails if its profile cannot be set, and is set by the next update', async () => {
    const { made, machine, target, profile, list, subscribed } = await scene();
    const nowhere = join(list, 'night');
    await machine.subscribe({ desktop: { ...subscribed, source: list, profile: nowhere } });
    const run = await machine.update();
    assertFailure(run, 8, 'NIX_FAILED', /list\/night/);
    assert.ok(isValidIn(target, made.root));
    await machine.subscribe({ desktop: { ...subscribed, source: list, profile } });
    assert.equal(updated(await update(machine))['isInProfile'], true);

    const other = await lab.closure([5_000], 'other');
    await writeFile(list, `${made.root}\n${other.root}\n`);
    const trust = ['--from', other.cacheDir, '--trusted-public-key', other.publicKey];
    assertFailure(await machine.update(trust), 2, 'USAGE', /several paths.*takes one/);
  });

  test('tells what a switch from the running path would change, also before it is fetched', async () => {
    const { made, machine, target, list, subscribed, next } = await scene();
    await update(machine);
    const current = join(await lab.folder('run'), 'current');
    await symlink(made.root, current);
    await machine.subscribe({ desktop: { ...subscribed, source: list, 'switch-to': current } });
    const same = (await update(machine)).event('switch');
    assert.deepEqual([same['from'], same['to'], same['changes']], [made.root, [made.root], []]);

    const second = await next();
    const dry = (await machine.update(['--dry-run'])).event('switch');
    const told = (await update(machine)).event('switch');
    assert.deepEqual(dry, told);
    assert.deepEqual([told['from'], told['to'], told['rebuilt']], [made.root, [second], 1]);
    const changes = told['changes'] as PackageChange[];
    assert.deepEqual(changes, [{ name: 'lab-blob', before: ['0', '1'], after: ['0', '1'], sizeDelta: 30_000 }]);
    const diff = ['--extra-experimental-features', 'nix-command', 'store', 'diff-closures', '--store', target];
    const theirs = execFileSync('nix', [...diff, made.root, second], { encoding: 'utf8', env: lab.env });
    const names = stripVTControlCharacters(theirs).matchAll(/^(\S+): .*KiB/gm);
    assert.deepEqual(
      Array.from(names, ([, name]) => name),
      changes.map(({ name }) => name),
    );
    const { stdout } = await lab.runPlain(machine.updateArgs([]), { env: { NARSWARM_CONFIG: machine.config } });
    assert.match(
      stdout,
      /^desktop: a switch would mean: 1 package changed, 0 added, 0 removed, 1 rebuilt, \+30\.0 kB\n {2}lab-blob: \+30\.0 kB$/m,
    );
    assert.equal(await readlink(current), made.root, 'nothing was switched');

    await rm(current);
    const unknown = await update(machine);
    assert.match(
      String(unknown.event('warning')['message']),
      /^desktop: what a switch would change is unknown: .*does not exist/,
    );
  });
});
