/** Spellings of a path in every command that takes one; test/nix/named-path.test.ts has all of them. */
import assert from 'node:assert/strict';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { evaluatedBuilds, type EvaluatedBuilds } from '../support/evaluated-builds.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, type Run } from '../support/lab.ts';

const BLOBS = [40_000, 5_000];
const PATHS = BLOBS.length * 2;

describe('forms of roots', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let builds: EvaluatedBuilds;
  /** Working folder with a link `result`. */
  let cwd: string;
  let from: readonly string[];
  /** Each names the root of the closure. */
  let forms: readonly string[];
  let publisherKey: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    builds = await evaluatedBuilds(made, await lab.folder('builds'));
    cwd = await lab.folder('cwd');
    await symlink(made.root, join(cwd, 'result'));
    const cache = lab.use(await startHttpCache(made.cacheDir));
    from = ['--from', cache.url, '--trusted-public-key', made.publicKey, ...ALONE];
    forms = [`${made.root}/bin/x`, 'result', made.root.slice('/nix/store/'.length).slice(0, 32)];
    publisherKey = lab.path('publisher.key');
  });
  after(() => lab[Symbol.asyncDispose]());

  const run = (args: readonly string[], env: Record<string, string> = {}): Promise<Run> => lab.run(args, { cwd, env });
  const succeeds = async (args: readonly string[], env: Record<string, string> = {}): Promise<Run> => {
    const ended = await run(args, env);
    assert.equal(ended.status, 0, `${args.join(' ')}: ${ended.stderr}`);
    return ended;
  };

  test('fetch takes all forms', async () => {
    for (const form of forms) {
      const done = await succeeds(['fetch', form, ...from, '--store', lab.path('store'), '--dry-run']);
      assert.equal(done.event('plan')['paths'], PATHS, form);
    }
  });

  test('pin, unpin, verify, torrent and publish --root take all forms', async () => {
    const store = ['--store', made.cacheDir];
    for (const form of forms) {
      await succeeds(['pin', form, ...store]);
      assert.equal((await succeeds(['unpin', form, ...store])).event('unpinned')['path'], made.root, form);
      assert.equal((await succeeds(['verify', form, ...store])).event('done')['narInfos'], 1, form);
      assert.equal((await succeeds(['torrent', form, ...store, '--magnet'])).event('torrent')['path'], made.root, form);
      const publish = ['publish', '--once', '--key', publisherKey, '--trusted-public-key', made.publicKey, ...store];
      await succeeds([...publish, '--root', `lab=${form}`]);
    }
  });

  test('add takes the forms that give the whole path', async () => {
    const env = { NIX_REMOTE: `local?root=${made.buildStore}` };
    for (const form of forms.slice(0, -1)) {
      const plan = await succeeds(['add', form, '--dry-run', '--store', lab.path('store')], env);
      assert.equal(plan.event('plan')['paths'], PATHS, form);
    }
    assertFailure(await run(['add', 'a'.repeat(32)], env), 3, 'NOT_FOUND', /a{32}.*name the whole path/);
  });

  test('subscribe takes all forms; a path stays the same, a link is followed at each update', async () => {
    for (const [form, source] of [
      [`${made.root}/bin/x`, made.root],
      [made.root.slice('/nix/store/'.length), made.root],
      ['result', join(cwd, 'result')],
    ] as const) {
      const subscribed = await succeeds(['subscribe', 'x', form, '--replace']);
      assert.equal(subscribed.event('subscribed')['source'], source);
    }
    assertFailure(await run(['subscribe', 'x', 'nothing']), 2, 'USAGE', /"nothing" is not a source/);
  });

  test('a text that is no path is refused and named', async () => {
    const fetch = (root: string): Promise<Run> => run(['fetch', root, ...from, '--store', lab.path('store')]);
    assertFailure(await fetch(`${made.root}^out`), 2, 'STORE_PATH_INVALID', /\^out/);
    assertFailure(await fetch('./nothing'), 3, 'NOT_FOUND', /nothing does not exist/);
    assertFailure(await fetch('.'), 2, 'STORE_PATH_INVALID', /"\." is not in /);
    assertFailure(await fetch('nothing'), 3, 'ROOT_UNKNOWN', /"nothing".*no hash map was asked.*--publisher/);
    assertFailure(
      await run(['pin', 'nothing', '--store', made.cacheDir]),
      2,
      'STORE_PATH_INVALID',
      /"nothing" is not a store path/,
    );
  });

  describe('installables', () => {
    /** Runs a fetch with a Nix whose store is empty. */
    const fetch = async (...args: string[]): Promise<Run> =>
      run(['fetch', ...args, ...from, '--no-copy'], { NIX_REMOTE: `local?root=${await lab.folder('nix')}` });

    test('an attribute of a file brings the outputs that nix build would fetch', async () => {
      const store = lab.path('store');
      for (const more of [['--dry-run'], []]) {
        const done = await fetch('cached', '--file', builds.file, '--store', store, ...more);
        assert.equal(done.status, 0, done.stderr);
        assert.equal(done.event(more.length > 0 ? 'plan' : 'done')['paths'], PATHS);
      }
      assert.equal((await assertSound(store, made.publicKey)).narInfos.length, PATHS);
    });

    test('a flake’s output that no cache has brings the inputs of its build', async () => {
      const store = lab.path('store');
      const done = await fetch(`path:${builds.flake}#top`, '--store', store);
      assert.equal(done.status, 0, done.stderr);
      assert.deepEqual(done.event('done')['roots'], [builds.source]);
      const layers = await fetch('top', made.root, '--file', builds.file, '--store', store);
      assertFailure(layers, 8, 'NIX_FAILED', new RegExp(`${made.root}: nix failed`));
    });

    test('an installable of which no cache has anything is named', async () => {
      const lost = await fetch('lost', '-f', builds.file, '--store', lab.path('store'));
      assertFailure(lost, 3, 'NARINFO_MISSING', /^error: lost: \/nix\/store\/\S+-lost\.tar is missing/);
      const none = await fetch('none', '-f', builds.file, '--store', lab.path('store'));
      assert.equal(none.status, 8);
      assert.match(none.stderr, /^error: none: nix failed: .*none/);
    });
  });
});
