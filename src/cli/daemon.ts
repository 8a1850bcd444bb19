import { Command } from 'commander';
import { NarswarmError } from '../errors.ts';
import { formatPublisherAddress, type PublisherAddress } from '../index/address.ts';
import { FileStore } from '../store/file-store.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { SERVICE_PORTS } from '../wire/ports.ts';
import { aside } from './configuration.ts';
import { openKey } from './key.ts';
import { addHttpPort, addPublishing, mirrorOf, tellBuilt, type PublishingFlags } from './publish-options.ts';
import { command, untilStopped, type CommonOptions } from './run-command.ts';
import {
  addCommon,
  addKeys,
  addNetwork,
  addPeers,
  addPublishers,
  addShareKeys,
  defaultStoreDir,
  limitsOf,
  networkOptions,
  sharedKeys,
  withNeighbours,
  type NetworkFlags,
} from './shared-options.ts';
import { readTrust } from './trust.ts';

interface DaemonOptions extends CommonOptions, NetworkFlags, PublishingFlags {
  readonly publish?: boolean;
  readonly httpPort?: number;
  readonly store: string;
  readonly publisher?: readonly PublisherAddress[];
  readonly trustedPublicKey?: readonly string[];
}

export function daemonCommand(): Command {
  const daemon = new Command('daemon')
    .description('seed a file store and the hash maps that it follows, until interrupted')
    .option('--store <dir>', 'file store to seed', defaultStoreDir());
  daemon.option(
    '--publish',
    'sign and publish this machine’s own hash map, too: of the subscriptions that say publish, and of what was added',
  );
  addPublishing(daemon);
  addHttpPort(daemon);
  addPublishers(daemon, 'hash map to follow and host; may be repeated');
  addPeers(daemon);
  addKeys(daemon);
  addShareKeys(daemon);
  addNetwork(daemon, { scope: 'lan', ports: SERVICE_PORTS });
  addCommon(
    daemon,
    [
      'narswarm daemon --publisher "magnet:?xs=urn:btpk:…"',
      'narswarm daemon --store /srv/narswarm --scope cohort --port 6881 --publisher "$ADDR"',
    ],
    ['STORE', 'NIX', 'LISTEN'],
  );
  return daemon.action(
    command<DaemonOptions, []>(async ({ output, signal, options, originOf, config: load }) => {
      const scope = options.scope ?? 'lan';
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
      const { Daemon } = await import('../daemon/daemon.ts');
      const { takeServingTurn } = await import('../daemon/serving-turn.ts');
      const { publishedContents } = await import('../subscription/published.ts');
      const { publishersOf } = await import('../subscription/source.ts');
      const { subscriptionsNow } = await import('../config/reread.ts');
      const store = await FileStore.open(options.store, { create: true });
      await using _turn = await takeServingTurn(store, {
        publishes: own !== undefined,
        onWarning: (text) => output.warn(text),
      });
      const subscriptions = subscriptionsNow(config, (text) => output.warn(text));
      await using service = await Daemon.start({
        store,
        keys,
        shareKeys,
        http,
        publishers: publishersOf(options.publisher ?? [], config.subscriptions),
        publish: own && {
          key: own.key,
          beforeSigning: own.save,
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
        onWarning: (text) => output.warn(text),
        onFollowed: (address, seq, records) => {
          const text = formatPublisherAddress(address);
          output.result('followed', { publisher: text, seq, records });
          output.note(`holding ${text}: generation ${seq}, ${records} NARs`);
        },
      });
      const { swarm, dht } = service.network;
      const { publisher } = service;
      const [usual] = SERVICE_PORTS.peers;
      if (options.port === undefined && swarm.port !== usual)
        output.note(
          `port ${usual} is in use by another process: this daemon listens on ${swarm.port} until it is started again`,
        );
      output.result(
        'ready',
        {
          port: swarm.port,
          dhtPort: dht?.port ?? null,
          nars: service.nars,
          scope,
          ...(publisher && {
            address: formatPublisherAddress(publisher.built.publication.address),
            httpPort: publisher.http.port,
            mirror: mirrorOf(publisher, options.listen),
          }),
        },
        [
          `seeding ${service.nars} NARs on port ${swarm.port} (scope ${scope})`,
          ...(publisher === undefined
            ? []
            : [
                `address  ${formatPublisherAddress(publisher.built.publication.address)}`,
                `HTTP     ${mirrorOf(publisher, options.listen)}`,
              ]),
          'ready',
        ].join('\n'),
      );
      await untilStopped(signal);
    }),
  );
}
