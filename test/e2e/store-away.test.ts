/** The Nix store is on a disk that is not mounted: questions about it do not make an empty one in its place. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { ALONE, Lab } from '../support/lab.ts';
import { startSubstitution, cacheAfterDaemon } from '../support/substituting.ts';

suite('without the folder of the Nix store', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    lab = await Lab.open();
    made = await cacheAfterDaemon(lab, [60_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A disk that is not mounted, and the environment that has the Nix store on it. */
  async function unmounted(): Promise<{ disk: string; env: Record<string, string> }> {
    const disk = await lab.folder('disk');
    return { disk, env: { NIX_REMOTE: `local?root=${disk}` } };
  }

  test('a daemon that is asked for a path fetches it and leaves the place empty', async () => {
    const { disk, env } = await unmounted();
    await using one = await startSubstitution(lab, made, { env });
    const hash = basename(made.root).slice(0, 32);
    const answer = await fetch(`${one.url}/${hash}.narinfo`);
    assert.equal(answer.status, 200);
    const [, nar = ''] = /^URL: (.*)$/m.exec(await answer.text()) ?? [];
    const body = await fetch(`${one.url}/${nar}`);
    assert.equal(body.status, 200);
    await body.arrayBuffer();
    const { status, stderr } = await one.daemon.stop();
    assert.equal(status, 0, stderr);
    assert.deepEqual(await readdir(disk), []);
  });

  test('a dry run and the doctor leave the place empty', async () => {
    const { disk, env } = await unmounted();
    const store = await lab.folder('store');
    const from = ['--from', `file://${made.cacheDir}`, '--trusted-public-key', made.publicKey];
    const dry = await lab.run(['fetch', made.root, '--dry-run', '--store', store, ...from, ...ALONE], { env });
    assert.equal(dry.status, 0, dry.stderr);
    const examined = await lab.run(['doctor', '--store', store, '--trusted-public-key', made.publicKey], { env });
    const found = examined.events.find(({ check }) => check === 'nix-conf');
    assert.equal(found?.['verdict'], 'unsure', examined.stderr);
    assert.match(String(found['message']), /no Nix store yet/);
    assert.deepEqual(await readdir(disk), []);
  });

  test('a fetch that imports creates the store', async () => {
    const { disk, env } = await unmounted();
    const from = ['--from', `file://${made.cacheDir}`, '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', made.root, '--store', await lab.folder('store'), ...from, ...ALONE], { env });
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(await readdir(disk), ['nix']);
  });
});
