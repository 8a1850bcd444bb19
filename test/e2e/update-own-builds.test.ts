/** A machine that publishes its whole store: the hash map lists requested and signed paths only. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, readNarInfos } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { buildOwn, type OwnBuilds } from '../support/own-builds.ts';

describe('publish = true, without a subscription that says publish', () => {
  let lab: Lab;
  let made: MadeClosure;
  let own: OwnBuilds;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([10_000]);
    own = await buildOwn(made, await lab.folder('own'));
  });
  after(() => lab[Symbol.asyncDispose]());

  const nix = (command: string, ...args: readonly string[]): Promise<{ stdout: string }> =>
    execa(command, args, { env: { HOME: lab.dir, NIX_CONFIG: 'experimental-features = nix-command' } });

  test('the hash map lists signed paths that were added, and nothing else in the store', async () => {
    const [secret, shared] = [lab.path('own.secret'), lab.path('own.public')];
    await nix('nix-store', '--generate-binary-cache-key', 'own-1', secret, shared);
    const keys = [made.publicKey, (await readFile(shared, 'utf8')).trim()];
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const machine = await Machine.make(lab, { flags: ['--scope', 'off'], env: { NIX_REMOTE: own.remote } });
    await machine.configure(`publish = true
key = ${JSON.stringify(lab.path('publisher.key'))}
trusted-public-key = ${JSON.stringify(keys)}
from = ${JSON.stringify(cache.url)}`);
    const run = async (...args: readonly string[]): Promise<void> => {
      const { status, stderr } = await machine.run(args);
      assert.equal(status, 0, stderr);
    };
    await run('fetch', made.root, '--no-copy'); // what the builds refer to, and so what is added with them
    await run('add', own.other, '--sign-key', secret);
    await run('add', own.root); // three builds that nobody has signed
    // A signed path that somebody else put there, and nobody requested.
    const { stdout } = await nix('nix-store', '--store', own.remote, '-qR', own.many);
    const alien = stdout.split('\n').find((path) => path.includes('-file-7')) ?? '';
    await nix('nix', 'store', 'sign', '--store', own.remote, '--key-file', made.secretKeyFile, alien);
    await nix('nix', 'copy', '--from', own.remote, '--to', `file://${machine.store}`, alien);
    const held = [...(await readNarInfos(machine.store)).values()].map(({ storePath }) => storePath);
    assert.ok(held.includes(alien as (typeof held)[number]));

    const update = await machine.update();
    assert.equal(update.status, 0, update.stderr);
    const built = update.event('built');
    assert.deepEqual([built['records'], built['leftOut']], [2 + 1, 0]);
    const { process: daemon } = await machine.service(['daemon', '--scope', 'lan', ...ALONE]);
    assert.equal((await daemon.event('built'))['records'], 2 + 1);
    const catalogue = await readFile(join(machine.store, 'narswarm/catalogue.jsonl'), 'utf8');
    assert.deepEqual([catalogue.includes(own.other), catalogue.includes(alien)], [true, false]);
  });
});
