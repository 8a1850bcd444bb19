/** A daemon whose file store can no longer be written: it goes on to give what it has. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf, narBytesOf, readNarInfos } from '../support/lab.ts';
import { inNamespace } from '../support/namespace.ts';
import { cacheAfterDaemon } from '../support/substituting.ts';

const LIMIT = { timeout: 180_000 };

/** What happens to the disk. Run where the disk is mounted at `$0`. */
const LOSSES = {
  'turns read-only': 'mount -o remount,ro "$0"',
  'is full': 'dd if=/dev/zero of="$0/other" bs=4k 2>/dev/null || test -s "$0/other"',
};

suite('a daemon whose disk', () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;
  let filled: string;
  /** Address of its hash map, which no peer needs to give. */
  let mirror: string;

  before(async () => {
    lab = await Lab.open();
    made = await cacheAfterDaemon(lab, [2_000_000, 60_000]);
    total = await narBytesOf(made.cacheDir);
    filled = await lab.folder('filled');
    const from = ['--from', `file://${made.cacheDir}`, '--trusted-public-key', made.publicKey, ...ALONE];
    const run = await lab.run(['fetch', made.root, '--no-copy', '--store', filled, ...from]);
    assert.equal(run.status, 0, run.stderr);
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--key', lab.path('key')];
    const published = await lab.run(['publish', '--once', ...what, '--trusted-public-key', made.publicKey]);
    assert.equal(published.status, 0, published.stderr);
    const { address, dir } = published.event('published');
    mirror = mirrorOf(String(address), lab.use(await startHttpCache(String(dir))).url);
  });
  after(() => lab[Symbol.asyncDispose]());

  for (const [what, lose] of Object.entries(LOSSES))
    test(`${what} still gives all that it has, and tells of nothing else`, LIMIT, async () => {
      const store = await lab.folder('store');
      const mount = `mount -t tmpfs -o size=20m tmpfs "$0" && cp -a ${filled}/. "$0" && exec "$@"`;
      const trust = ['--trusted-public-key', made.publicKey];
      const share = ['--share-keys', made.publicKey, '--substituter-listen', '127.0.0.1', '--substituter-port', '0'];
      const { process: daemon, ready } = await lab.service(['daemon', '--store', store, ...share, ...trust, ...ALONE], {
        wrapper: [...inNamespace('-m'), 'sh', '-c', mount, store],
      });
      await using _daemon = daemon;
      const where = ['nsenter', '-m', '-t', String(daemon.pid), 'sh', '-c', lose, store];
      const { status, stderr } = spawnSync(where[0]!, where.slice(1), { encoding: 'utf8' });
      assert.equal(status, 0, stderr);

      const [url = ''] = ready['substituters'] as readonly string[];
      for (const [hash, info] of await readNarInfos(made.cacheDir)) {
        const answer = await fetch(`${url}/${hash}.narinfo`);
        assert.equal(answer.status, 200);
        const nar = await fetch(`${url}/${parseNarInfo(await answer.text()).url}`);
        assert.equal((await nar.arrayBuffer()).byteLength, info.fileSize);
      }
      assert.equal((await fetch(`${url}/${'a'.repeat(32)}.narinfo`)).status, 404);

      const client = await lab.folder('client');
      const peer = ['--peer', `127.0.0.1:${String(ready['port'])}`, '--publisher', mirror, ...trust, ...ALONE];
      const run = await lab.run(['fetch', made.root, '--no-copy', '--store', client, '--no-upstream', ...peer]);
      assert.equal(run.status, 0, run.stderr);
      assert.deepEqual(run.event('done')['bytes'], { total, store: 0, peers: total, upstream: 0 });
      await assertSound(client, made.publicKey);
      assert.equal((await daemon.stop()).status, 0);
    });
});
