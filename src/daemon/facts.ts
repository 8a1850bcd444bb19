/**
 * The facts of a running daemon, gathered in one place for everything that shows them. They name no NAR and no path that
 * others must not see, but they do name neighbours and followed publishers: pass them on only to the store's owner.
 */
import * as v from 'valibot';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { formatPublisherAddress } from '../index/address.ts';
import type { Publisher } from '../publish/publisher.ts';
import { GATEWAY_PROTOCOLS, MAPPING_FAILURES, type PortMapping } from '../discovery/gateway/mapping.ts';
import { SCOPES, type Scope } from '../discovery/scope.ts';
import type { StoreOffer } from '../serve/store-offer.ts';
import type { Replicas } from '../store/replicas.ts';
import type { GivenBytes } from '../substituter/given.ts';
import type { Network } from '../swarm/network.ts';
import { VERSION } from '../version.ts';
import type { FollowedMap, HeldEdition } from './followed-map.ts';

const COUNT = v.pipe(v.number(), v.minValue(0));
const TIME = v.pipe(v.string(), v.isoTimestamp());

const EDITION = v.object({
  seq: v.number(),
  created: TIME,
  expires: TIME,
  /** Number of NARs that it lists. */
  records: COUNT,
});

/** A connected member of the joined groups. */
const MEMBER = v.object({
  /** `host:port` that it can be reached at, or the end of its connection if it connected to us. */
  address: v.string(),
  host: v.string(),
  isNeighbour: v.boolean(),
  /** NARs of this store that its machine held when copies were last counted. Null before the first count. */
  holds: v.nullable(COUNT),
  /** Payload bytes that we have sent it over this connection. */
  sentBytes: COUNT,
  /** Verified bytes that it has sent us, without those of mirrors' updates, which have connections of their own. */
  gaveBytes: COUNT,
});

/** Ports that the network's router maps to this machine: {@link PortMapping}. */
const PORT_MAPPING = v.object({
  gateway: v.nullable(v.string()),
  protocol: v.nullable(v.picklist(GATEWAY_PROTOCOLS)),
  externalAddress: v.nullable(v.string()),
  ports: v.array(
    v.object({
      protocol: v.picklist(['tcp', 'udp']),
      internalPort: v.number(),
      externalPort: v.number(),
      until: v.nullable(TIME),
    }),
  ),
  failure: v.nullable(v.picklist(MAPPING_FAILURES)),
  refusal: v.nullable(v.number()),
});

/** The facts of a daemon. Additions are fine; readers ignore keys that they do not know. */
export const FACTS_SCHEMA = v.object({
  version: v.string(),
  pid: v.number(),
  startedAt: TIME,
  storeDir: v.string(),
  scope: v.picklist(SCOPES),
  /** TCP port for peers. */
  port: v.number(),
  /** UDP port and size of the routing table of the DHT. Null while the DHT is not used. */
  dht: v.nullable(v.object({ port: v.number(), nodes: COUNT })),
  /** TCP port of the hash maps over HTTP. Null if none is served. */
  mapPort: v.nullable(v.number()),
  /** Null unless `map-port` asks for it. */
  portMapping: v.optional(v.nullable(PORT_MAPPING), null),
  /** URLs at which Nix is served. */
  substituters: v.array(v.string()),
  /** Requested NARs in the store whose pieces are known. Only those that the gate lets out are served. */
  nars: COUNT,
  /** NARs and bytes given to others since the start. A NAR that is served for long counts again every five minutes. */
  served: v.object({
    nars: COUNT,
    bytesToMembers: COUNT,
    bytesToClients: COUNT,
    /** Over HTTP, to Nix of this machine. */
    bytesToNix: v.optional(COUNT, 0),
    /** Over HTTP, to other machines. */
    bytesOverHttp: v.optional(COUNT, 0),
  }),
  members: v.array(MEMBER),
  /** The followed hash maps, with the edition that is complete here. */
  maps: v.array(v.object({ address: v.string(), edition: v.nullable(EDITION) })),
  /** This machine's own hash map. Null if it publishes none. `nodes`: DHT nodes that stored its pointer last time. */
  published: v.nullable(v.object({ address: v.string(), edition: EDITION, nodes: COUNT })),
  /** Names of the mirrors that are being updated now. */
  updating: v.array(v.string()),
});

export type EditionFacts = v.InferOutput<typeof EDITION>;
export type DaemonFacts = v.InferOutput<typeof FACTS_SCHEMA>;

/** The parts of a daemon that know its facts. */
export interface FactSources {
  readonly startedAt: Date;
  readonly storeDir: string;
  readonly scope: Scope;
  readonly network: Network;
  readonly offer: StoreOffer;
  readonly followed: Iterable<FollowedMap>;
  readonly publisher: Publisher | undefined;
  readonly mapPort: number | undefined;
  readonly portMapping: PortMapping | undefined;
  readonly substituters: readonly string[];
  /** The last count of copies at other machines. */
  readonly replicas: Replicas | undefined;
  readonly updating: readonly string[];
  /** Bytes of NARs given over HTTP. Undefined if Nix is not served. */
  readonly given: GivenBytes | undefined;
}

/** Gathers the facts of this moment, without questions to others and without the disk. */
export function gatherFacts(sources: FactSources): DaemonFacts {
  const { network, offer, publisher, replicas, given } = sources;
  const { swarm, dht, sent } = network;
  return {
    version: VERSION,
    pid: process.pid,
    startedAt: sources.startedAt.toISOString(),
    storeDir: sources.storeDir,
    scope: sources.scope,
    port: swarm.port,
    dht: dht === undefined ? null : { port: dht.port, nodes: dht.nodeCount() },
    mapPort: sources.mapPort ?? null,
    portMapping: sources.portMapping === undefined ? null : mappingFacts(sources.portMapping),
    substituters: [...sources.substituters],
    nars: offer.catalogue.size,
    served: {
      nars: offer.servedNars,
      bytesToMembers: sent.toMembers,
      bytesToClients: sent.toClients,
      bytesToNix: given?.toNix ?? 0,
      bytesOverHttp: given?.toOthers ?? 0,
    },
    members: Array.from(network.members.open, ({ peer, host, isNeighbour, sentBytes }) => ({
      address: peer.endpoint.port === 0 ? peer.address : formatEndpoint(peer.endpoint),
      host,
      isNeighbour,
      holds: replicas?.held?.[host] ?? null,
      sentBytes,
      gaveBytes: peer.bytes,
    })),
    maps: Array.from(sources.followed, ({ address, edition }) => ({
      address: formatPublisherAddress(address),
      edition: edition === undefined ? null : editionFacts(edition),
    })),
    published: publisher === undefined ? null : publishedFacts(publisher),
    updating: [...sources.updating],
  };
}

function mappingFacts({ ports, ...mapping }: PortMapping): NonNullable<DaemonFacts['portMapping']> {
  return { ...mapping, ports: [...ports] };
}

function editionFacts(edition: HeldEdition): EditionFacts {
  const { seq, created, expires, recordCount: records } = edition;
  return { seq, created: created.toISOString(), expires: expires.toISOString(), records };
}

function publishedFacts({ built, dhtNodes: nodes }: Publisher): NonNullable<DaemonFacts['published']> {
  const { address, manifest } = built.publication;
  return { address: formatPublisherAddress(address), edition: editionFacts(manifest), nodes };
}
