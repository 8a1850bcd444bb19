/** A site that only a disk gets to: one host unpacks it, and its neighbours get everything from there. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { assertSound, requisites, type Lab } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { bytesOf, fullUser, LanUser } from '../support/lan-user.ts';
import { Lan } from '../support/namespaces.ts';

/** A cache that no route leads to. */
const FAR_CACHE = 'http://192.0.2.1';
const PATHS = 4;

suite('a site that only a disk gets to', { concurrency: 2 }, () => {
  for (const [how, key] of [
    ['by a key that is shared', 'cache.nixos.org'],
    ['by the hash map on the disk', 'lab'],
  ] as const)
    suite(how, () => {
      let lab: Lab;
      let made: MadeClosure;
      let total: number;
      before(async () => {
        ({ lab, made, total } = await openLanLab([200_000, 20_000], key));
      });
      after(() => lab[Symbol.asyncDispose]());

      test('one host unpacks, and the others get everything from it', async () => {
        const usb = await lab.folder('usb');
        const address = await packAtSiteA(lab, made, usb, key === 'lab');
        await using lan = Lan.open();
        const first = await LanUser.of(lab, lan.host('first'), { made, cache: FAR_CACHE });
        if (address !== undefined) assert.equal((await first.run('subscribe', 'sys', `${address}#lab`)).status, 0);
        const unpacked = await first.run('unpack', usb, '--store', first.store);
        assert.equal(unpacked.status, 0, unpacked.stderr);
        const { paths, bytes, maps } = unpacked.event('unpacked');
        assert.deepEqual({ paths, bytes, maps }, { paths: PATHS, bytes: total, maps: address === undefined ? 0 : 1 });
        await first.daemon('--substituter-port', '0');

        const second = await LanUser.of(lab, lan.host('second'), { made, cache: FAR_CACHE });
        const run =
          address === undefined
            ? await second.fetch()
            : await second.run('fetch', 'lab', '--no-copy', '--store', second.store, '--publisher', address);
        assert.deepEqual(bytesOf(run), { ...bytesOf(run), peers: total, upstream: 0 });
        await assertSound(second.store, made.publicKey);

        const third = lan.host('third');
        const to = await lab.folder('nix');
        const [program, ...wrapped] = third.wrapper;
        const copy = ['nix', 'copy', '--from', `file://${usb}`, '--to', to, made.root];
        const trust = ['--extra-experimental-features', 'nix-command', '--trusted-public-keys', made.publicKey];
        await execa(program, [...wrapped, ...copy, ...trust], { env: lab.env });
        assert.equal(requisites(to, made.root).length, PATHS);
      });
    });
});

/**
 * Packs the closure at another site.
 *
 * @param isPublished true to pack it as a root of a publisher there, with its hash map
 * @returns the publisher's address, if there is one
 */
async function packAtSiteA(
  lab: Lab,
  made: MadeClosure,
  usb: string,
  isPublished: boolean,
): Promise<string | undefined> {
  await using lan = Lan.open({ subnet: '10.78.0' });
  const user = await fullUser(lab, lan.host('a'), { made });
  const into = [usb, '--store', user.store];
  if (!isPublished) {
    const run = await user.run('pack', made.root, ...into);
    assert.equal(run.status, 0, run.stderr);
    return undefined;
  }
  const what = ['--store', user.store, '--root', `lab=${made.root}`, '--key', lab.path('key')];
  const publisher = user.start('publish', ...what);
  const address = String((await publisher.event('ready'))['address']);
  const run = await user.run('pack', `${address}#lab`, ...into);
  assert.equal(run.status, 0, run.stderr);
  assert.equal(run.event('packed')['maps'], 1);
  await publisher.stop();
  return address;
}
