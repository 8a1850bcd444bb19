import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { makeFolder } from '../disk/make-folder.ts';
import { Daemon } from '../daemon/daemon.ts';
import { Publisher } from '../publish/publisher.ts';
import { parseUpstream } from '../http/upstream.ts';
import { runFetch, type RunFetchResult } from '../fetch/run-fetch.ts';
import { formatPublisherAddress, type PublisherAddress } from '../index/address.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { createPublisherKey } from '../index/publisher-key.ts';
import type { InfoHash } from '../nix/brands.ts';
import { parsePublicKey } from '../nix/signature.ts';
import { FileStore } from '../store/file-store.ts';
import { DhtNode } from '../discovery/dht.ts';
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import type { NetworkOptions } from '../swarm/network.ts';
import type { Scope } from '../discovery/scope.ts';
import { makeClosure } from './closure.ts';
import { serveCache } from './cache-server.ts';

const MB = 1_000_000;
/** A few large NARs and many small ones, as in real closures. */
const BLOB_BYTES = [8 * MB, 4 * MB, 2 * MB, ...Array.from({ length: 17 }, (_, index) => 1_500 * (index + 1) ** 2)];
const DHT_NODES = 5;
const HOST = '127.0.0.1';

/** The results of the demo, for its table. */
export interface DemoResult {
  readonly paths: number;
  readonly bytes: number;
  readonly durationMs: number;
  /** Bytes by sender: `publisher`, `seeder 1`, `seeder 2`. */
  readonly from: ReadonlyMap<string, number>;
  readonly upstreamBytesMeanwhile: number;
  /** Paths in the fresh store, counted by the real Nix. */
  readonly imported: number;
}

/**
 * Plays the whole story on this machine alone: a closure built by the real Nix, a cache that serves it, a private DHT,
 * a publisher, two seeders, and a client that gets everything from them after the cache is switched off.
 *
 * @param say called with a line for people at each step
 * @throws NIX_MISSING, and errors of the real parts
 */
export async function runDemo(say: (line: string) => void, signal: AbortSignal): Promise<DemoResult> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-demo-'));
  stack.defer(() => removeTree(dir));
  const folder = async (name: string): Promise<string> => {
    await makeFolder(join(dir, name));
    return join(dir, name);
  };
  const warn = (message: string): void => say(`  (${message})`);

  say('1  building a closure with the real Nix and signing it');
  const made = await makeClosure(await folder('make'), BLOB_BYTES, { signal });
  const keys = [parsePublicKey(made.publicKey)];

  const upstream = stack.use(await serveCache(made.cacheDir));
  say(`2  serving it as a binary cache at ${upstream.url}`);

  const nodes: DhtNode[] = [];
  for (let count = 0; count < DHT_NODES; count++) {
    nodes.push(
      stack.use(
        await DhtNode.listen({
          host: HOST,
          bootstrap: nodes.slice(0, 1).map((node) => ({ host: HOST, port: node.port })),
        }),
      ),
    );
  }
  await Promise.all(nodes.slice(1).map((node) => node.ready({ signal })));
  const bootstrap: Endpoint[] = nodes.map((node) => ({ host: HOST, port: node.port }));
  say(`3  a private DHT of ${nodes.length} nodes is up`);
  const network = (scope: Scope): NetworkOptions => ({
    scope,
    listen: HOST,
    dht: true,
    dhtBootstrap: bootstrap,
    lan: false,
    peers: [],
  });

  const publisher = stack.use(
    await Publisher.start({
      store: await FileStore.open(made.cacheDir, { create: true }),
      key: await createPublisherKey(join(dir, 'publisher.key')),
      salt: 'demo',
      contents: () => Promise.resolve({ named: new Map([['demo', made.root]]), unnamed: [] }),
      keys,
      validForMs: 86_400_000,
      hints: [],
      signal,
      network: network('cohort'),
      httpPorts: [0],
      onWarning: warn,
    }),
  );
  const { address } = publisher.built.publication;
  say(
    `4  a publisher signed a hash map of ${publisher.built.records.length} NARs and announced it in the DHT:\n     ${formatPublisherAddress(address)}`,
  );

  const names = new Map([[`${HOST}:${publisher.network.swarm.port}`, 'publisher']]);
  const fetchInto = (storeDir: string, rest: Partial<Parameters<typeof runFetch>[0]>): Promise<RunFetchResult> =>
    runFetch({
      roots: ['demo'],
      publishers: [address],
      upstreams: [],
      keys,
      trustedPublicKeys: [made.publicKey],
      copy: false,
      storeDir,
      network: network('lan'),
      seedForMs: 0,
      publisherTimeoutMs: 30_000,
      signal,
      onWarning: warn,
      ...rest,
    });
  const upstreams = [parseUpstream(upstream.url)];
  const seeders = [
    {
      name: 'seeder 1',
      how: 'filled from the cache alone',
      rest: { roots: [made.root], publishers: [] as PublisherAddress[], network: undefined, upstreams },
    },
    { name: 'seeder 2', how: 'filled from the swarm', rest: { upstreams } },
  ];
  for (const { name, how, rest } of seeders) {
    const store = await folder(name.replace(' ', '-'));
    await fetchInto(store, rest);
    const daemon = stack.use(
      await Daemon.start({
        store: await FileStore.open(store, { create: true }),
        keys,
        publishers: [address],
        network: network('cohort'),
        signal,
        onWarning: warn,
      }),
    );
    names.set(`${HOST}:${daemon.network.swarm.port}`, name);
    say(`5  ${name} is up, ${how}, and announces itself in the publisher’s cohort`);
  }

  await untilFound(nodes[0]!, cohortInfoHash(address.publicKey, address.salt), names.size, signal);
  const sentBefore = upstream.bytesSent();
  say('6  a new machine fetches the root “demo” without a cache, only with the publisher’s address');
  const target = `local?root=${await folder('fresh-store')}`;
  const result = await fetchInto(await folder('client'), { copy: true, to: target });
  const from = new Map(
    Array.from(result.progress.bySource, ([source, { bytes }]) => [names.get(source) ?? source, bytes]),
  );
  const { stdout } = await execa('nix-store', ['--store', target, '--query', '--requisites', made.root], {
    env: { LC_ALL: 'C' },
  });
  return {
    paths: result.closure.size,
    bytes: result.progress.peerBytes,
    durationMs: result.progress.durationMs,
    from,
    upstreamBytesMeanwhile: upstream.bytesSent() - sentBefore,
    imported: stdout.trim().split('\n').length,
  };
}

/** Waits until the DHT knows this many members of a cohort: announces take a moment. */
async function untilFound(node: DhtNode, cohort: InfoHash, count: number, signal: AbortSignal): Promise<void> {
  const found = new Set<string>();
  while (found.size < count) {
    await node.lookup(cohort, { onPeer: (peer) => found.add(formatEndpoint(peer)), signal });
    await sleep(100, undefined, { signal });
  }
}

/** Removes a folder in which Nix made its stores read-only. */
async function removeTree(dir: string): Promise<void> {
  await execa('chmod', ['-R', 'u+w', dir], { reject: false });
  await rm(dir, { recursive: true, force: true });
}
