/** A machine without any network: everything that cannot be reached is known soon, and told once. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { assertFailure, assertSound, mirrorOf, type Lab } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { bytesOf, fullUser, LanUser } from '../support/lan-user.ts';
import { Lan } from '../support/namespaces.ts';

/** A cache that no route leads to. */
const FAR_CACHE = 'http://192.0.2.1';

suite('a machine without a network', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;

  before(async () => {
    ({ lab, made, total } = await openLanLab([20_000], 'cache.nixos.org'));
  });
  after(() => lab[Symbol.asyncDispose]());

  test('uses the kept edition of a publisher, and says so once', async () => {
    await using lan = Lan.open();
    const holder = await fullUser(lab, lan.host('holder'), { made });
    const what = ['--store', holder.store, '--root', `lab=${made.root}`, '--key', lab.path('key')];
    const publisher = holder.start('publish', ...what);
    const address = String((await publisher.event('ready'))['address']);
    const host = lan.host('client');
    const client = await LanUser.of(lab, host, { made, cache: FAR_CACHE });
    assert.equal((await client.run('subscribe', 'sys', `${address}#lab`)).status, 0);
    const first = await client.run('update', '--store', client.store);
    assert.equal(first.status, 0, first.stderr);
    host.detach();
    const { status, stdout, stderr } = await client.runPlain('update', '--store', client.store);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^sys: complete, \d+ paths, nothing new$/m);
    assert.match(stderr, /no node of the DHT can be reached: .*; using the kept edition of /);
    assert.equal(stderr.split('no answer about').length, 2, stderr);
  });

  for (const name of ['localhost', '127.0.0.1'])
    test(`gets NARs from a publisher of its own whose mirror is at ${name}`, async () => {
      await using lan = Lan.open();
      const host = lan.host('alone', { addresses: 'none' });
      const key = { made, cache: '', key: made.publicKey };
      const publisher = await LanUser.of(lab, host, key);
      const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--key', lab.path('key')];
      const address = String((await publisher.start('publish', ...what).event('ready'))['address']);
      const client = await LanUser.of(lab, host, key);
      const mirror = mirrorOf(address, `http://${name}:16276`);
      const run = await client.run('fetch', 'lab', '--publisher', mirror, '--no-copy', '--store', client.store);
      assert.equal(bytesOf(run).peers, total);
      await assertSound(client.store, made.publicKey);
    });

  test('says why a path cannot be fetched', async () => {
    await using lan = Lan.open();
    const holder = await fullUser(lab, lan.host('holder'), { made });
    const host = lan.host('client', { addresses: 'none' });
    const nothing = await LanUser.of(lab, host, { made, cache: FAR_CACHE });
    assertFailure(await nothing.fetch(), 5, 'HTTP_FAILED', /ENETUNREACH.*check the network of this machine/);
    const key = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';
    const untrusted = await LanUser.of(lab, host, { made, cache: FAR_CACHE, key });
    await cp(holder.store, untrusted.store, { recursive: true });
    assertFailure(await untrusted.fetch(), 4, 'NARINFO_UNTRUSTED', /the signature of .* is wrong/);
  });
});
