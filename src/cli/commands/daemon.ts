import { Command } from 'commander';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { formatPublisherAddress, mapFolder, type PublisherAddress } from '../../index/address.ts';
import { formatEndpoint } from '../../discovery/endpoint.ts';
import { parseBudget, parseCount } from '../../config/units.ts';
import { RUN_PORTS, SERVICE_PORTS } from '../../wire/ports.ts';
import { aside } from '../options/configuration.ts';
import { openDaemonStore } from '../daemon-store.ts';
import { openKey } from './key.ts';
import { addHttpPort, addPublishing, tellBuilt, type PublishingFlags } from '../options/publish-options.ts';
import { service as runService, untilStopped, type CommonOptions } from '../run-command.ts';
import {
  addCommon,
  addLogging,
  addNetwork,
  defaultStoreDir,
  limitsOf,
  networkOptions,
  sharedKeys,
  withNeighbours,
} from '../options/shared-options.ts';
import { keepHeapSmall } from '../start/small-heap.ts';
import {
  addSources,
  addYield,
  metered,
  onlyAddress,
  readSources,
  type SourceFlags,
} from '../options/source-options.ts';
import { addSubstituter, serveHttp, httpUrls, type SubstituterFlags } from '../options/substituter-options.ts';
import { keepImported } from '../keep-imported.ts';
import { addMapPort, mapPorts, type MapPortFlags, type ServiceMapping } from '../port-mapping.ts';
import { readTrust } from '../options/trust.ts';
import { tellReady } from '../words/daemon-report.ts';
import { statusText } from '../words/running-daemon.ts';
import { tellUpdated } from '../words/update-report.ts';
import { one } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';
import type { KeptOfImported } from '../../subscription/room/kept-of-imported.ts';
import type { DaemonPort } from '../../daemon/daemon-port.ts';
import type { FactsSocket as Answering } from '../../daemon/facts-socket.ts';
import type { Warn } from '../../warning.ts';

/** Time to look for a newer edition of a mirror than the one that the daemon holds. */
const MIRROR_PUBLISHER_TIMEOUT_MS = 10_000;

interface DaemonFlags extends CommonOptions, SourceFlags, PublishingFlags, SubstituterFlags, MapPortFlags {
  readonly publish?: boolean;
  readonly httpPort?: number;
  readonly store: string;
  readonly maxSize?: number;
  readonly keepImported: KeptOfImported;
  readonly keepGenerations: number;
}

export function daemonCommand(): Command {
  const daemon = new Command('daemon')
    .summary('seed, mirror, and serve Nix until interrupted')
    .description(
      'seed a file store and the hash maps that it follows, and keep mirrors of whole maps, until interrupted',
    )
    .option('--store <dir>', 'file store to seed', defaultStoreDir());
  daemon.option(
    '--publish',
    'sign and publish this machine’s own hash map, too: the subscriptions that say publish, and the paths of narswarm add',
  );
  addPublishing(daemon);
  addHttpPort(daemon);
  daemon
    .option(
      '--max-size <size>',
      'limit for the size of all NARs, which mirrors keep to, such as 50G (default: none, but 10 GB, or a tenth of the free space, for NARs that only Nix asked for)',
      one(parseBudget),
    )
    .option(
      '--keep-generations <count>',
      'complete generations of each mirror to keep, besides the newest one',
      one(parseCount),
      1,
    );
  daemon.addOption(keepImported());
  addSubstituter(daemon);
  addSources(daemon);
  addYield(daemon);
  daemon.addOption(metered('avoid lets mirrors look again ten minutes later; seeding goes on'));
  addLogging(daemon);
  addNetwork(daemon, { scope: 'lan', ports: SERVICE_PORTS });
  addMapPort(daemon);
  addCommon(
    daemon,
    [
      'narswarm daemon',
      'narswarm subscribe mirror "magnet:?xs=urn:btpk:…" && narswarm daemon --max-size 200G',
      'narswarm daemon --store /srv/narswarm --scope cohort --publish',
      'narswarm daemon --scope cohort --map-port   # at home: the router maps the ports',
    ],
    ['STORE', 'NIX', 'LISTEN'],
  );
  return daemon.action(
    runService<DaemonFlags>(async ({ output, signal, options, originOf, config: load, self, onHangup }) => {
      const scope = options.scope ?? 'lan';
      const onWarning = warningsTo(output);
      const { ServiceManager } = await import('../../daemon/service-manager.ts');
      await using manager = new ServiceManager(process.env, onWarning);
      const { takePassedSockets } = await import('../../daemon/passed-sockets.ts');
      const passed = takePassedSockets(process.env);
      if (scope === 'off')
        throw new NarswarmError(
          'USAGE',
          `--scope off${aside(originOf('scope'))} serves nobody, and serving is all that a daemon does: give lan, cohort or public`,
        );
      const network = { ...networkOptions(options, scope, originOf, SERVICE_PORTS), limits: limitsOf(options) };
      const { keys, http } = await readTrust({ trustedPublicKey: options.trustedPublicKey, from: [] }, signal, (text) =>
        output.warn(text),
      );
      const shareKeys = sharedKeys(keys, options, (text) => output.warn(text));
      const config = await load();
      if (options.publish === true && scope === 'lan')
        output.warn(
          `--scope lan${aside(originOf('scope'))} publishes on this network alone: give --scope cohort for followers elsewhere`,
        );
      const own = options.publish === true ? await openKey(options.key, output) : undefined;
      keepHeapSmall();
      const { Daemon } = await import('../../daemon/daemon.ts');
      const { Mirrors } = await import('../../daemon/mirrors.ts');
      const { runUpdate } = await import('../../subscription/update/run-update.ts');
      const { takeServingTurn } = await import('../../daemon/serving-turn.ts');
      const { publishedContents } = await import('../../subscription/published.ts');
      const { publishersOf } = await import('../../subscription/source/source.ts');
      const { FactsSocket } = await import('../../daemon/facts-socket.ts');
      const { subscriptionsNow } = await import('../../config/reread.ts');
      const store = await openDaemonStore(options.store, { origin: originOf('store'), output });
      await using turn = await takeServingTurn(store, {
        publishes: own !== undefined,
        onWarning,
      });
      const subscriptions = subscriptionsNow(config, onWarning);
      await using mirrors = new Mirrors({
        subscriptions,
        signal,
        onWarning,
        update: async (due, stop) => {
          const sources = await readSources(options, { output, signal: stop, originOf, seeds: true });
          const { updated } = await runUpdate({
            ...sources,
            publisherTimeoutMs: options.publisherTimeout ?? MIRROR_PUBLISHER_TIMEOUT_MS,
            // The configured ports are the daemon's own. Its rate limits hold for the updates, too.
            network: sources.network && { ...sources.network, ports: RUN_PORTS.peers, dhtPorts: RUN_PORTS.dht },
            limits: options.yield === true ? network.limits.forBackground() : network.limits,
            storeDir: options.store,
            subscriptions: due,
            configured: await subscriptions(),
            forgetOthers: false,
            maxBytes: options.maxSize,
            rankFiles: service.rankFiles,
            keepImported: options.keepImported,
            keepGenerations: options.keepGenerations,
            waits: true,
            dryRun: false,
            signal: stop,
            avoidsMetered: options.metered === 'avoid',
            debug: (text) => output.debug(text),
            configPath: config.path,
            onWarning,
            onUpdated: (result) => tellUpdated(output, result, false),
          });
          return new Map(
            updated.map(({ subscription, error, lacking }) => [
              subscription.name,
              { isComplete: error === undefined, nars: lacking },
            ]),
          );
        },
        isHeldElsewhere: (nars, stop) => service.isHeldElsewhere(nars, stop),
      });
      let substituters: readonly string[] = [];
      let given: DaemonPort['given'] | undefined;
      let outer: ServiceMapping | undefined;
      await using service = await Daemon.start({
        store,
        keys,
        shareKeys,
        http,
        publishers: options.publisher ?? [],
        publish: own && {
          key: own.key,
          salt: options.salt,
          validForMs: options.validFor,
          hints: (options.hint ?? []).map(formatEndpoint),
          httpPorts: options.httpPort === undefined ? SERVICE_PORTS.http : [options.httpPort],
          contents: async () => publishedContents(store, await subscriptions(), keys),
          version: async () => JSON.stringify((await subscriptions()).filter(({ publish }) => publish)),
          onRenewed: (built) => tellBuilt(output, built),
        },
        alsoFollow: async () => publishersOf([], await subscriptions()),
        network: withNeighbours(network, shareKeys),
        signal,
        onWarning,
        httpPorts: options.httpPort === undefined ? SERVICE_PORTS.http : [options.httpPort],
        updating: () => mirrors.updating,
        portMapping: () => outer?.mapping,
        substituters: () => substituters,
        given: () => given?.(),
        onMember: () => mirrors.onMember(),
        onFollowed: (address, { seq, records, mirror: url }) => {
          const text = formatPublisherAddress(address);
          const mirror = url === undefined ? null : formatPublisherAddress({ ...address, baseUrl: url });
          output.result('followed', { publisher: text, seq, records, mirror });
          output.note(`following ${text}: edition ${seq}, ${records} NARs`);
          if (mirror !== null) output.note(`its map is at '${mirror}', too`);
          mirrors.onEdition(address, seq);
        },
      });
      const { releasingOf } = await import('../../subscription/room/releasing.ts');
      const { listStates } = await import('../../subscription/state/state.ts');
      const { pruneStore } = await import('../../subscription/room/prune-store.ts');
      const prune = async (): Promise<void> => {
        const { maxSize: maxBytes, keepGenerations, keepImported: kept } = options;
        const { catalogue } = service.means.offer;
        const configured = await subscriptions();
        const releasing = releasingOf(kept, configured, await listStates(store));
        await pruneStore(store, { maxBytes, catalogue, keepGenerations, configured, releasing, signal, onWarning });
      };
      const followed = async (): Promise<PublisherAddress[]> =>
        publishersOf(options.publisher ?? [], await subscriptions());
      await using httpPort = await serveHttp(options, {
        service,
        passed,
        output,
        originOf,
        signal,
        publishers: followed,
        subscriptions,
        keys,
        limit: network.limits.download,
        onEnded: () => void prune(),
        lanCaches: network.lan && options.upstream ? { interfaceAddress: onlyAddress(network.listen) } : undefined,
      });
      const urls = httpUrls(httpPort?.addresses ?? [], service.network.networks);
      substituters = options.substituter ? urls : [];
      given = httpPort?.given;
      const statusPage = urls[0] === undefined ? null : `${urls[0]}/status`;
      // Another daemon on this store answers for itself.
      const answering = (): Promise<Answering> => FactsSocket.open(store, () => service.facts);
      await using _socket = turn && (await openOrWarn(answering, onWarning));
      const { swarm } = service.network;
      const [usual] = SERVICE_PORTS.peers;
      if (options.port === undefined && swarm.port !== usual)
        output.note(
          `port ${usual} is in use by another process: this daemon listens on ${swarm.port} until it is started again`,
        );
      tellReady(output, service, { scope, substituters, statusPage, listen: options.listen });
      if (service.nars === 0)
        for (const text of unfetched(options.publisher ?? [], publishersOf([], config.subscriptions)))
          output.warn(text);
      service.network.members.on('member', ({ peer }) => output.debug(`met the member ${peer.address}`));
      service.network.members.on('gone', ({ peer }) => output.debug(`the member ${peer.address} has gone`));
      const { reloading } = await import('../reload.ts');
      const reload = reloading({ self, output, config, limits: network.limits, onWarning });
      onHangup(() => void manager.reload(reload));
      await using mapping = await mapPorts(options, service.network, { output, from: originOf('scope') });
      outer = mapping;
      manager.ready(() => statusText(service.facts));
      await untilStopped(signal);
      manager.stopping();
    }),
  );
}

/** Opens something that a daemon can do without. @throws errors that are not ours */
async function openOrWarn<T>(open: () => Promise<T>, onWarning: Warn): Promise<T | undefined> {
  try {
    return await open();
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    onWarning({ kind: 'failed', error });
    return undefined;
  }
}

/** Returns a warning for each publisher of which nothing is held. Following a map does not fetch its NARs. */
function unfetched(publishers: readonly PublisherAddress[], subscribed: readonly PublisherAddress[]): string[] {
  const known = new Set(subscribed.map(mapFolder));
  return publishers.flatMap((publisher) => {
    if (known.has(mapFolder(publisher))) return [];
    const address = formatPublisherAddress(publisher);
    return `this daemon holds and fetches nothing of ${address}: to hold all of it, run narswarm subscribe mirror '${address}'; for one root, run narswarm subscribe NAME '${address}#ROOT' and narswarm update`;
  });
}
