/**
 * Machines of one network that want the same at the same time, and whose neighbours come, sleep and die meanwhile. Judged by
 * who has sent what.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn, type HostCache } from '../support/cache-process.ts';
import { assertSound, Lab, mirrorOf, narBytesOf, type CliProcess } from '../support/lab.ts';
import { bytesOf, DEAD_CACHE, LanUser, startHolder } from '../support/lan-user.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

/** Time between two looks at a fetch. */
const LOOK_EVERY_MS = 20;

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(LOOK_EVERY_MS);
}

suite('neighbours at the same time', { concurrency: 2 }, () => {
  let lab: Lab;
  /** A closure of many NARs. */
  let many: MadeClosure;
  let manyBytes: number;
  /** A closure that is nearly one NAR. */
  let large: MadeClosure;
  let largeBytes: number;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    const sizes = Array.from({ length: 48 }, (_, index) => 40_000 + 1_000 * index);
    many = await uncompressed(await lab.closure(sizes, 'cache.nixos.org'));
    manyBytes = await narBytesOf(many.cacheDir);
    large = await lab.closure([6_000_000], 'cache.nixos.org');
    largeBytes = await narBytesOf(large.cacheDir);
  });
  after(() => lab[Symbol.asyncDispose]());

  /**
   * The same closure in a cache that compresses nothing. Its NARs are given on as soon as they are here: nothing has to be
   * decompressed first, which a busy machine does late.
   */
  async function uncompressed(made: MadeClosure): Promise<MadeClosure> {
    const cacheDir = await lab.folder('cache');
    const flags = ['--extra-experimental-features', 'nix-command', '--from', made.buildStore];
    await execa('nix', ['copy', ...flags, '--to', `file://${cacheDir}?compression=none`, made.root], { env: lab.env });
    return { ...made, cacheDir };
  }

  /** Serves a closure from a cache with a line of so many kbit/s. */
  async function cacheOn(
    lan: Lan,
    stack: AsyncDisposableStack,
    { cacheDir }: MadeClosure,
    upKbit: number,
  ): Promise<HostCache & { readonly host: Host }> {
    const host = lan.host('cache', { upKbit });
    return { ...stack.use(await startCacheOn(host, cacheDir)), host };
  }

  /** Two machines that begin to fetch the same closure at the same time, and their cache. */
  async function pair(stack: AsyncDisposableStack) {
    const lan = stack.use(Lan.open());
    const cache = await cacheOn(lan, stack, many, 8_000);
    const [first, second] = await Promise.all(
      ['first', 'second'].map((name) => LanUser.of(lab, lan.host(name), { made: many, cache: cache.url })),
    );
    assert.ok(first !== undefined && second !== undefined);
    // The first one stays for the other a while after its end, as one with a daemon does for good.
    const fetching = [first.startFetch('--seed-for', '60s'), second.startFetch('--seed-for', '60s')] as const;
    return { cache, users: [first, second] as const, fetching };
  }

  /** Fails unless the process has fetched everything, no byte of it twice. */
  async function assertDone(process: CliProcess, user: LanUser): Promise<void> {
    const done = await process.event('done');
    const { peers, upstream } = done['bytes'] as { peers: number; upstream: number };
    await assertSound(user.store, many.publicKey);
    assert.equal(await narBytesOf(user.store), manyBytes);
    assert.ok(peers + upstream <= 1.1 * manyBytes, `${peers} + ${upstream} of ${manyBytes} bytes`);
  }

  test('two neighbours download a common NAR once between them', async () => {
    await using stack = new AsyncDisposableStack();
    const { cache, users, fetching } = await pair(stack);
    await Promise.all(fetching.map((process, index) => assertDone(process, users[index] ?? assert.fail())));
    const served = await cache.narBytes();
    assert.ok(served < 1.4 * manyBytes, `${served} of ${manyBytes} bytes from the cache`);
  });

  test('if one is killed midway, the other continues from the cache', async () => {
    await using stack = new AsyncDisposableStack();
    const { cache, users, fetching } = await pair(stack);
    await until(async () => (await cache.narBytes()) > 0.4 * manyBytes);
    await fetching[0].stop('SIGKILL');
    await assertDone(fetching[1], users[1]);
    // What the first one gave before is not fetched again.
    const served = await cache.narBytes();
    assert.ok(served < 1.8 * manyBytes, `${served} of ${manyBytes} bytes from the cache`);
  });

  test('if one falls asleep midway, the other continues, and the sleeper does when it wakes', async () => {
    await using stack = new AsyncDisposableStack();
    const { cache, users, fetching } = await pair(stack);
    await until(async () => (await cache.narBytes()) > 0.4 * manyBytes);
    process.kill(fetching[0].pid, 'SIGSTOP');
    await assertDone(fetching[1], users[1]);
    process.kill(fetching[0].pid, 'SIGCONT');
    await assertDone(fetching[0], users[0]);
  });

  test('a sleeping neighbour is skipped, and used when it wakes', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const cache = await cacheOn(lan, stack, many, 1_000);
    const { daemon } = await startHolder(lab, lan.host('holder'), { made: many });
    process.kill(daemon.pid, 'SIGSTOP');
    const client = await LanUser.of(lab, lan.host('client'), { made: many, cache: cache.url });
    const fetching = client.startFetch();
    await until(async () => (await cache.narBytes()) > 0.1 * manyBytes);
    process.kill(daemon.pid, 'SIGCONT');
    const { peers, upstream } = bytesOf(await fetching.end());
    assert.ok(peers > 0.5 * manyBytes && upstream > 0, `${peers} bytes from the neighbour, ${upstream} from the cache`);
  });

  test('a large NAR from a cache continues from a neighbour that appears midway', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const cache = await cacheOn(lan, stack, large, 8_000);
    const host = lan.host('holder', { addresses: 'none' });
    await startHolder(lab, host, { made: large });
    const client = await LanUser.of(lab, lan.host('client'), { made: large, cache: cache.url });
    const fetching = client.startFetch();
    await until(async () => (await cache.narBytes()) > 0.2 * largeBytes);
    host.addAddresses('v4');
    const { peers, upstream } = bytesOf(await fetching.end());
    assert.ok(peers > 0.4 * largeBytes, `${peers} of ${largeBytes} bytes from the neighbour`);
    assert.ok(peers + upstream < 1.2 * largeBytes, 'what the cache has sent is not fetched again');
    await assertSound(client.store, large.publicKey);
  });

  test('a flash crowd whose only seeder is killed completes from its members', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const host = lan.host('seeder', { upKbit: 8_000 });
    const published = ['--store', many.cacheDir, '--root', `lab=${many.root}`, '--trusted-public-key', many.publicKey];
    const { process: seeder, ready } = await lab.service(
      ['publish', ...published, '--key', lab.path('key'), '--no-dht'],
      {
        wrapper: host.wrapper,
      },
    );
    const publisher = mirrorOf(String(ready['address']), `http://${host.ipv4}:16276`);
    const narCount = (await readdir(join(many.cacheDir, 'nar'))).length;
    // So slow that they still need each other for seconds after everything has left the seeder.
    const crowd = await Promise.all(
      ['one', 'two', 'three', 'four'].map((name) =>
        LanUser.of(lab, lan.host(name, { upKbit: 4_000 }), { made: many, cache: DEAD_CACHE }),
      ),
    );
    const ways = ['--publisher', publisher, '--no-dht', '--no-upstream', '--seed-for', '60s'];
    const fetching = crowd.map((user) => user.startFetch(...ways));
    // Everything has left the seeder by then, and nobody has everything.
    const held = (): Promise<(readonly string[])[]> =>
      Promise.all(crowd.map((user) => readdir(join(user.store, 'nar')).catch(() => [])));
    await until(async () => new Set((await held()).flat()).size === narCount);
    const atDeath = await held();
    await seeder.stop('SIGKILL');
    assert.ok(
      atDeath.some((nars) => nars.length < narCount),
      'the members had nothing left to give each other',
    );
    await Promise.all(fetching.map((process) => process.event('done')));
    for (const user of crowd) assert.equal(await narBytesOf(user.store), manyBytes);
  });
});
