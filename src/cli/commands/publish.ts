import { Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import type { BuildOptions } from '../../publish/build-publication.ts';
import type { Publisher } from '../../publish/publisher.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import { isPath, readNamedPath } from '../../nix/named-path.ts';
import { FileStore } from '../../store/file-store.ts';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import { SERVICE_PORTS } from '../../wire/ports.ts';
import { openKey } from './key.ts';
import { WorkProgress } from '../live/work-progress.ts';
import { progressDisplay } from '../live/progress-display.ts';
import type { Output } from '../output.ts';
import { addMapPort, mapPorts, type MapPortFlags } from '../port-mapping.ts';
import { addAgainst, addMakeDeltas, deltasOf, tellPatchPlan, type MakeDeltasFlags } from '../make-deltas.ts';
import { addRecompression, recompressionOf, tellRecompressionPlan, type RecompressionFlags } from '../recompression.ts';
import { addHttpPort, addPublishing, mirrorOf, tellBuilt, type PublishingFlags } from '../options/publish-options.ts';
import { service, untilStopped, type CommonOptions } from '../run-command.ts';
import {
  addCommon,
  addKeys,
  addLogging,
  addNetwork,
  addShareKeys,
  defaultStoreDir,
  limitsOf,
  networkOptions,
  sharedKeys,
  withNeighbours,
  type NetworkFlags,
} from '../options/shared-options.ts';
import { keepHeapSmall } from '../start/small-heap.ts';
import { readTrust, type Trust } from '../options/trust.ts';
import { each, formatCount, formatSize } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';

interface PublishOptions
  extends CommonOptions, NetworkFlags, PublishingFlags, RecompressionFlags, MakeDeltasFlags, MapPortFlags {
  readonly store: string;
  readonly from?: readonly string[];
  readonly root?: readonly (readonly [name: string, path: string])[];
  readonly trustedPublicKey?: readonly string[];
  readonly httpPort?: number;
  readonly once?: boolean;
  readonly dryRun?: boolean;
}

export function publishCommand(): Command {
  const publish = new Command('publish')
    .summary('sign and announce a hash map, and seed its NARs')
    .description(
      'make torrents of the NARs of a binary cache, sign the hash map, put it into the DHT, and seed until interrupted',
    )
    .option('--store <dir>', 'binary cache directory to publish', defaultStoreDir())
    .option(
      '--from <url>',
      'binary cache to download missing paths of the roots from, before publishing; may be repeated',
      each(String),
    )
    .option(
      '--root <name=storepath>',
      'publish the closure of this path under this name; may be repeated (default: the whole store)',
      each(parseRoot),
    );
  addRecompression(publish);
  addMakeDeltas(publish);
  addAgainst(publish);
  addPublishing(publish);
  addHttpPort(publish);
  publish.option('--once', 'write the hash map and exit, without seeding');
  publish.option(
    '-n, --dry-run',
    'with --recompress or --make-deltas: count the NARs that would be compressed again, or get patches; writes and downloads nothing',
  );
  addKeys(publish);
  addShareKeys(publish);
  addLogging(publish);
  addNetwork(publish, { ports: SERVICE_PORTS });
  addMapPort(publish);
  addCommon(
    publish,
    [
      'narswarm publish --store /srv/cache --trusted-public-key "$(cat cache.pub)"',
      'narswarm publish --store /srv/cache --from https://cache.nixos.org --root desktop=/nix/store/…-nixos-system',
      'narswarm publish --store /srv/cache --once --json',
      'narswarm publish --store /srv/cache --recompress zstd --dry-run',
      'narswarm publish --store /srv/cache --recompress zstd:12',
      'narswarm publish --store /srv/cache --make-deltas',
    ],
    ['NOT_FOUND', 'UNTRUSTED', 'SOURCES_FAILED', 'STORE', 'NIX', 'LISTEN', 'INTERRUPTED'],
  );
  return publish.action(
    service<PublishOptions>(async ({ output, signal, options, originOf }) => {
      if (options.dryRun === true && options.recompress === undefined && options.makeDeltas !== true)
        throw new NarswarmError(
          'USAGE',
          '--dry-run tells what --recompress or --make-deltas would do: give one of them, such as --recompress zstd',
        );
      const named = await namedRoots(options.root ?? []);
      // The caches of the config file are used only to fetch named roots.
      const from = named.size === 0 && originOf('from').source !== 'cli' ? undefined : options.from;
      const trust = await readTrust({ trustedPublicKey: options.trustedPublicKey, from: from ?? [] }, signal, (text) =>
        output.warn(text),
      );
      const onWarning = warningsTo(output);
      if (from !== undefined && named.size === 0)
        throw new NarswarmError(
          'USAGE',
          '--from downloads what is missing of named roots: name them with --root NAME=STOREPATH',
        );
      if (from !== undefined && options.dryRun !== true)
        await fetchMissing([...named.values()], { trust, storeDir: options.store, output, signal });
      const { buildPublication, planPatches, planRecompression } = await import('../../publish/build-publication.ts');
      const { Publisher } = await import('../../publish/publisher.ts');
      const store = await FileStore.open(options.store, { create: false });
      const roots = await wholeRoots(named, store);
      const contents: BuildOptions['contents'] = () =>
        Promise.resolve(roots.size === 0 ? 'everything' : { named: roots, unnamed: [] });
      if (options.dryRun === true) {
        const plan = { store, keys: trust.keys, contents, signal };
        if (options.recompress !== undefined) tellRecompressionPlan(output, await planRecompression(plan));
        if (options.makeDeltas !== true) return;
        const { key } = await openKey(options.key, output);
        const deltas = deltasOf(options, output, undefined);
        tellPatchPlan(output, await planPatches({ ...plan, key, salt: options.salt, deltas }));
        return;
      }
      const shareKeys = sharedKeys(trust.keys, options, (text) => output.warn(text));
      const { key } = await openKey(options.key, output);
      using work = new WorkProgress(output);
      const build: BuildOptions = {
        store,
        key,
        salt: options.salt,
        contents,
        keys: trust.keys,
        validForMs: options.validFor,
        hints: (options.hint ?? []).map(formatEndpoint),
        tellHashing: work.tellHashing,
        recompression: recompressionOf(options, output, work),
        deltas: deltasOf(options, output, work),
        signal,
      };
      if (options.once === true) {
        // A publisher that is running on this store names itself in the hints.
        const built = await buildPublication({ ...build, keepsHints: options.hint === undefined });
        tellBuilt(output, built);
        output.result(
          'published',
          { address: formatPublisherAddress(built.publication.address), dir: built.publication.dir.dir },
          formatPublisherAddress(built.publication.address),
        );
        return;
      }
      output.note('hashing what is new');
      if (options.dht)
        output.note('looking for the DHT; without internet this takes up to a minute (--no-dht leaves it out)');
      keepHeapSmall();
      const { ServiceManager } = await import('../../daemon/service-manager.ts');
      await using manager = new ServiceManager(process.env, onWarning);
      await using publisher = await Publisher.start({
        ...build,
        shareKeys,
        network: withNeighbours(
          { ...networkOptions(options, 'cohort', originOf, SERVICE_PORTS), limits: limitsOf(options) },
          shareKeys,
        ),
        httpPorts: options.httpPort === undefined ? SERVICE_PORTS.http : [options.httpPort],
        onWarning,
        onRenewed: (built) => tellBuilt(output, built),
      });
      tellBuilt(output, publisher.built);
      tellReady(output, publisher, options.listen);
      await using _mapping = await mapPorts(options, publisher.network, { output, from: originOf('scope') });
      manager.ready(() => `publishing ${formatCount(publisher.built.publication.manifest.recordCount, 'NAR')}`);
      await untilStopped(signal);
      manager.stopping();
    }),
  );
}

/** Downloads the missing NARs of closures from caches. */
async function fetchMissing(
  roots: readonly (StorePath | StoreHash)[],
  context: { readonly trust: Trust; readonly storeDir: string; readonly output: Output; readonly signal: AbortSignal },
): Promise<void> {
  const { trust, storeDir, output, signal } = context;
  const { runFetch } = await import('../../fetch/run-fetch.ts');
  using display = progressDisplay(output);
  const { plan, progress } = await runFetch({
    roots,
    publishers: [],
    upstreams: trust.upstreams,
    http: trust.http,
    keys: trust.keys,
    trustedPublicKeys: [],
    copy: false,
    looksInto: 'all',
    storeDir,
    network: undefined,
    seedForMs: 0,
    publisherTimeoutMs: 0,
    signal,
    ...display.handlers,
  });
  display.stop();
  output.note(`${formatCount(plan.jobs.length, 'NAR')} fetched (${formatSize(progress.upstreamBytes)})`);
}

function tellReady(output: Output, publisher: Publisher, listen: string | undefined): void {
  const address = formatPublisherAddress(publisher.built.publication.address);
  const { swarm, dht } = publisher.network;
  const mirror = mirrorOf(publisher, listen);
  output.result(
    'ready',
    {
      address,
      port: swarm.port,
      dhtPort: dht?.port ?? null,
      httpPort: publisher.http.port,
      mirror,
      dhtNodes: publisher.dhtNodes,
    },
    [
      `address  ${address}`,
      `peers    port ${swarm.port} (TCP)`,
      `DHT      ${dht === undefined ? 'off' : `port ${dht.port} (UDP), the pointer is at ${formatCount(publisher.dhtNodes, 'node')}`}`,
      `HTTP     ${mirror}`,
      'ready',
    ].join('\n'),
  );
}

function parseRoot(text: string): readonly [name: string, path: string] {
  const [, name, path] = /^([A-Za-z0-9._-]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined)
    throw new NarswarmError('USAGE', `Expected NAME=STOREPATH with a name of A-Z a-z 0-9 . _ -, not ${text}.`);
  return [name, path];
}

async function namedRoots(
  pairs: readonly (readonly [name: string, path: string])[],
): Promise<ReadonlyMap<string, StorePath | StoreHash>> {
  const named = pairs.map(async ([name, path]) => [name, await readNamedPath(path)] as const);
  const roots = new Map(await Promise.all(named));
  if (roots.size !== pairs.length) throw new NarswarmError('USAGE', 'two --root have the same name: give each its own');
  return roots;
}

/** @throws ROOT_UNKNOWN if the store has no narinfo for a hash part */
async function wholeRoots(
  named: ReadonlyMap<string, StorePath | StoreHash>,
  store: FileStore,
): Promise<ReadonlyMap<string, StorePath>> {
  const roots = new Map<string, StorePath>();
  for (const [name, path] of named) {
    const whole = isPath(path) ? path : (await store.readNarInfo(path))?.storePath;
    if (whole === undefined) {
      const message = `--root ${name}=${path}: ${store.dir} has no narinfo for it: name a cache that has one with --from`;
      throw new NarswarmError('ROOT_UNKNOWN', message, { facts: { root: name, path } });
    }
    roots.set(name, whole);
  }
  return roots;
}
