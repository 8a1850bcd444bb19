/**
 * Lines and members as they are: one that is slow, many that are off, and a line that is out now and then. Each beside the
 * same fetch without that trouble, and judged by who has sent what.
 */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { assertSound, Lab, mirrorOf, type Run } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

const PORT = 6881;
const HTTP_PORT = 8081;
const LINE_KBIT = 4_000;

/** The addresses of machines that are off. */
const OFF = Array.from({ length: 60 }, (_, index) => `10.77.0.${150 + index}:${PORT}`);

suite('real lines and members', { concurrency: true }, () => {
  let lab: Lab;
  let lan: Lan;
  let made: MadeClosure;
  let seeder: Host;
  let publisher: string;
  let key: string;
  let clients = 0;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    lan = lab.use(Lan.open());
    made = await lab.closure([3_000_000, 1_200_000, 600_000, 60_000, 60_000, 60_000]);
    key = lab.path('publisher.key');
    seeder = lan.host('seeder', { upKbit: 16_000 });
    publisher = await publishAt(seeder, made.cacheDir);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Serves the closure from a host. @returns the address of its map */
  async function publishAt(host: Host, store: string): Promise<string> {
    const what = ['--store', store, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey, '--key', key];
    const ports = ['--port', `${PORT}`, '--http-port', `${HTTP_PORT}`, '--no-lan', '--no-dht'];
    const { ready } = await lab.service(['publish', ...what, ...ports], { wrapper: host.wrapper });
    return mirrorOf(String(ready['address']), `http://${host.ipv4}:${HTTP_PORT}`);
  }

  interface Fetched {
    readonly ms: number;
    readonly bytes: { readonly peers: number; readonly upstream: number; readonly total: number };
    readonly from: ReadonlyMap<string, number>;
  }

  async function fetched(run: Run, store: string): Promise<Fetched> {
    assert.equal(run.status, 0, run.stderr);
    await assertSound(store, made.publicKey);
    const done = run.event('done');
    const sources = done['sources'] as { source: string; bytes: number }[];
    return {
      ms: Number(done['durationMs']),
      bytes: done['bytes'] as Fetched['bytes'],
      from: new Map(sources.map(({ source, bytes }) => [source, bytes])),
    };
  }

  function client(downKbit?: number): Host {
    return lan.host(`client-${clients++}`, downKbit === undefined ? {} : { downKbit });
  }

  async function fetch(host: Host, sources: readonly string[]): Promise<Fetched> {
    const store = await lab.folder('store');
    const what = ['--store', store, '--trusted-public-key', made.publicKey, '--no-copy', '--no-lan', '--no-dht'];
    const run = await lab.run(['fetch', made.root, ...what, ...sources], { wrapper: host.wrapper });
    return fetched(run, store);
  }

  /**
   * Fetches from the seeder alone and then from other sources, at most five times until that takes less than the limit:
   * other programs may need the processor. Fails if it never does.
   */
  async function fetchBeside(
    limitOf: (aloneMs: number) => number,
    sources: readonly string[],
  ): Promise<{ readonly alone: Fetched; readonly beside: Fetched }> {
    const times: string[] = [];
    while (times.length < 5) {
      const alone = await fetch(client(), fromPeers(atSeeder()));
      const beside = await fetch(client(), sources);
      if (beside.ms < limitOf(alone.ms)) return { alone, beside };
      times.push(`${beside.ms} ms with ${sources.join(' ')}, ${alone.ms} ms from the seeder`);
    }
    return assert.fail(times.join('; '));
  }

  const fromPeers = (...peers: readonly string[]): string[] => [
    '--no-upstream',
    '--publisher',
    publisher,
    ...peers.flatMap((peer) => ['--peer', peer]),
  ];
  const atSeeder = (): string => `${seeder.ipv4}:${PORT}`;

  test('beside the seeder, a slow member and sixty that are off cost little time', async () => {
    const slow = lan.host('slow', { upKbit: 160 });
    const copy = await lab.folder('copy');
    await cp(made.cacheDir, copy, { recursive: true });
    await publishAt(slow, copy);
    const atSlow = `${slow.ipv4}:${PORT}`;
    const { alone, beside } = await fetchBeside((ms) => ms * 1.5, fromPeers(atSlow, atSeeder()));
    assert.ok(
      (beside.from.get(atSlow) ?? 0) < alone.bytes.total / 10,
      'it sends what it can, and no more is left to it',
    );

    const { beside: off } = await fetchBeside((ms) => ms + 1_500, fromPeers(...OFF, atSeeder()));
    assert.equal(off.bytes.peers, off.bytes.total);

    await using cache = await startCacheOn(seeder, made.cacheDir);
    const from = ['--from', cache.url, '--publisher', publisher];
    await fetchBeside((ms) => ms * 1.5 + 3_000, [...from, '--peer', atSlow]);
  });

  test('a line that fails for four seconds in ten still brings half of its bytes, from peers and from a cache', async () => {
    const source = lan.host('source');
    const copy = await lab.folder('copy');
    await cp(made.cacheDir, copy, { recursive: true });
    await publishAt(source, copy);
    await using cache = await startCacheOn(source, made.cacheDir);
    const sources = [fromPeers(`${source.ipv4}:${PORT}`), ['--from', cache.url]];
    /** @returns the share of the bytes that the line could have carried */
    const shareOver = async (from: readonly string[]): Promise<number> => {
      const host = client(LINE_KBIT);
      const stop = new AbortController();
      let upMs = 0;
      const toggle = async (): Promise<void> => {
        for (let isUp = true; !stop.signal.aborted; isUp = !isUp) {
          host.setCable(isUp);
          const beganAtMs = performance.now();
          await sleep(isUp ? 6_000 : 4_000, undefined, { signal: stop.signal }).catch(() => undefined);
          if (isUp) upMs += performance.now() - beganAtMs;
        }
      };
      const toggling = toggle();
      const { bytes } = await fetch(host, from).finally(() => stop.abort());
      await toggling;
      assert.ok(bytes.peers + bytes.upstream < bytes.total * 1.3, 'little came twice');
      return bytes.total / (upMs * (LINE_KBIT / 8));
    };
    const judge = async (from: readonly string[]): Promise<void> => {
      // TCP may lose most of an interval in which the line works, if the outage ends just behind a retransmission.
      const shares: number[] = [];
      while (shares.length < 3 && (shares.at(-1) ?? 0) <= 0.5) shares.push(await shareOver(from));
      assert.ok((shares.at(-1) ?? 0) > 0.5, `${shares.join(', ')} of what could have come`);
    };
    await Promise.all(sources.map(judge));
  });
});
