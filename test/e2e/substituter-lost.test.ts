/** A daemon that is stopped, killed, hung or without room: the real Nix takes the paths from its next cache. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { HttpCache } from '../support/http-cache.ts';
import { Lab } from '../support/lab.ts';
import { inNamespace } from '../support/namespace.ts';
import { nixMinorVersion, type NixClientOptions } from '../support/nix-client.ts';
import {
  cacheAfterDaemon,
  largestOf,
  type CachedFile,
  narRequests,
  startSubstitution,
  type Substitution,
} from '../support/substituting.ts';

/** As README advises, with shorter waits. */
const SETTINGS: NixClientOptions['settings'] = {
  fallback: true,
  'stalled-download-timeout': 2,
  'connect-timeout': 2,
  'download-attempts': 1,
};
const LARGE = 6_000_000;
const LIMIT = { timeout: 180_000 };

/** What happens to a daemon. */
const LOSSES = {
  'is stopped': async ({ daemon }: Substitution) => void (await daemon.stop()),
  'is killed': async ({ daemon }: Substitution) => void (await daemon.stop('SIGKILL')),
  hangs: async ({ daemon }: Substitution) => void process.kill(daemon.pid, 'SIGSTOP'),
};

suite('Nix continues with its next cache if the daemon', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let large: CachedFile;

  before(async () => {
    lab = await Lab.open();
    made = await cacheAfterDaemon(lab, [LARGE, 60_000, 5_000]);
    large = await largestOf(made);
  });
  after(() => lab[Symbol.asyncDispose]());

  for (const [what, lose] of Object.entries(LOSSES)) {
    test(`${what} before the first question`, LIMIT, async () => {
      await using one = await startSubstitution(lab, made);
      await lose(one);
      const nix = await one.nix(SETTINGS);
      const { status, stderr } = await nix.realise(made.root).ended;
      assert.equal(status, 0, stderr);
      await nix.assertHas(made.root);
    });

    test(`${what} while it sends a large NAR`, LIMIT, async () => {
      await using one = await startSubstitution(lab, made);
      one.upstream.faults = [slow()];
      const nix = await one.nix(SETTINGS);
      await using run = nix.realise(made.root);
      await run.receiving(large.givenBytes);
      await lose(one);
      const { status, stderr } = await run.ended;
      assert.equal(status, 0, stderr);
      await nix.assertHas(made.root);
      assert.equal(narRequests(one.second).get(large.url), 1);
    });

    test(`${what} after Nix has come to know it`, LIMIT, async () => {
      await using one = await startSubstitution(lab, made);
      const nix = await one.nix(SETTINGS);
      const asked = await nix.run('nix', 'path-info', '--store', one.url, made.root).ended;
      assert.equal(asked.status, 0, asked.stderr);
      await lose(one);
      const { status, stderr } = await nix.realise(made.root).ended;
      // Nix 2.8 aborts, so the module leaves its nix.conf alone, and README says so.
      if (nixMinorVersion() < 9) assert.match(stderr, /SubstituterDisabled|terminate called/);
      else {
        assert.equal(status, 0, stderr);
        await nix.assertHas(made.root);
      }
    });
  }

  test('has no room for a NAR', LIMIT, async () => {
    const store = await lab.folder('small-disk');
    const mount = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"';
    await using one = await startSubstitution(lab, made, {
      store,
      wrapper: [...inNamespace('-m'), 'sh', '-c', mount, store],
    });
    const [, hash] = large.ownUrl.split('?path=');
    assert.equal((await fetch(`${one.url}/${hash}.narinfo`)).status, 404, 'its NAR could not come');
    assert.deepEqual(narRequests(one.upstream), new Map());
    const nix = await one.nix(SETTINGS);
    const { status, stderr } = await nix.realise(made.root).ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(made.root);
    assert.ok(narRequests(one.upstream).size > 0, 'the daemon has tried');
    const stopped = await one.daemon.stop();
    assert.equal(stopped.status, 0, stopped.stderr);
  });

  for (const [what, kinds] of [
    ['gets only a part from its cache', ['cut']],
    ['gets wrong bytes from its cache', ['corrupt']],
    ['gets errors from its cache', ['status']],
  ] as const) {
    test(what, LIMIT, async () => {
      await using one = await startSubstitution(lab, made);
      one.upstream.faults = kinds.map((kind) => ({ kind, match: /^\/nar\//, afterBytes: 2_000_000 }));
      const nix = await one.nix(SETTINGS);
      const { status, stderr } = await nix.realise(made.root).ended;
      assert.equal(status, 0, stderr);
      await nix.assertHas(made.root);
    });
  }

  /** The rest comes at a rate at which the NAR takes some seconds. */
  function slow(): HttpCache['faults'][number] {
    return { kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 1_500_000 };
  }
});
