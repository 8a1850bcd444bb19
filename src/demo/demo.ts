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
import type { PublisherAddress } from '../index/address.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { createPublisherKey } from '../index/publisher-key.ts';
import type { InfoHash } from '../nix/brands.ts';
import { parsePublicKey } from '../nix/signature.ts';
import { FileStore } from '../store/file-store.ts';
import { DhtNode } from '../discovery/dht.ts';
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import type { NetworkOptions } from '../swarm/network.ts';
import type { Scope } from '../discovery/scope.ts';
import { makeClosure, type ClosureStep } from './closure.ts';
import { serveCache } from './cache-server.ts';
import type { Warn, Warning } from '../warning.ts';

const MB = 1_000_000;
/** A few large NARs and many small ones, as in real closures. */
const BLOB_BYTES = [8 * MB, 4 * MB, 2 * MB, ...Array.from({ length: 17 }, (_, index) => 1_500 * (index + 1) ** 2)];
const DHT_NODES = 5;
const HOST = '127.0.0.1';

/** A step of the demo that begins or is done. */
export type DemoStep =
  | { readonly kind: ClosureStep }
  | { readonly kind: 'serving'; readonly url: string }
  | { readonly kind: 'joined-dht'; readonly nodes: number }
  | { readonly kind: 'published'; readonly records: number; readonly address: PublisherAddress }
  /** A seeder runs, with the NARs that it got from there. */
  | { readonly kind: 'seeding'; readonly name: string; readonly from: 'cache' | 'swarm' }
  | { readonly kind: 'awaiting-announces' }
  | { readonly kind: 'fetching' }
  | { readonly kind: 'warning'; readonly warning: Warning };

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
 * @param tell called with each step
 * @throws NIX_MISSING, and errors of the real parts
 */
export async function runDemo(tell: (step: DemoStep) => void, signal: AbortSignal): Promise<DemoResult> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-demo-'));
  stack.defer(() => removeTree(dir));
  const folder = async (name: string): Promise<string> => {
    await makeFolder(join(dir, name));
    return join(dir, name);
  };
  const warn: Warn = (warning) => tell({ kind: 'warning', warning });

  const onStep = (kind: ClosureStep): void => tell({ kind });
  const made = await makeClosure(await folder('make'), BLOB_BYTES, { signal, onStep });
  const keys = [parsePublicKey(made.publicKey)];

  const upstream = stack.use(await serveCache(made.cacheDir));
  tell({ kind: 'serving', url: upstream.url });

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
  tell({ kind: 'joined-dht', nodes: nodes.length });
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
  tell({ kind: 'published', records: publisher.built.publication.manifest.recordCount, address });

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
      from: 'cache',
      rest: { roots: [made.root], publishers: [] as PublisherAddress[], network: undefined, upstreams },
    },
    { name: 'seeder 2', from: 'swarm', rest: { upstreams } },
  ] as const;
  for (const { name, from, rest } of seeders) {
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
    tell({ kind: 'seeding', name, from });
  }

  tell({ kind: 'awaiting-announces' });
  await untilFound(nodes[0]!, cohortInfoHash(address.publicKey, address.salt), names.size, signal);
  const sentBefore = upstream.bytesSent();
  tell({ kind: 'fetching' });
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
  const enough = new AbortController();
  const onPeer = (peer: Endpoint): void => {
    found.add(formatEndpoint(peer));
    if (found.size >= count) enough.abort();
  };
  while (!enough.signal.aborted) {
    try {
      await node.lookup(cohort, { onPeer, signal: AbortSignal.any([signal, enough.signal]) });
      await sleep(100, undefined, { signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!enough.signal.aborted) throw error;
    }
  }
}

/** Removes a folder in which Nix made its stores read-only. */
async function removeTree(dir: string): Promise<void> {
  await execa('chmod', ['-R', 'u+w', dir], { reject: false });
  await rm(dir, { recursive: true, force: true });
}
