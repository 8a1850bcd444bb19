import type { PublisherAddress } from '../index/address.ts';
import type { Endpoint } from '../discovery/endpoint.ts';
import { isLoopback } from '../discovery/foreign-addresses.ts';
import { LanCaches, type LanCachesOptions } from '../fetch/sources/lan-caches.ts';
import { NeighbourNarInfos } from '../fetch/sources/neighbour-narinfos.ts';
import type { Upstream } from '../http/upstream.ts';
import type { ActivitySources } from '../substituter/activity.ts';
import { tellNixWaits } from '../store/nix-waits.ts';
import { Substituter, type SubstituterOptions } from '../substituter/substituter.ts';
import type { Network } from '../swarm/network.ts';

/** Time for the first neighbour, as in a fetch. */
const NEIGHBOUR_WAIT_MS = 1_000;

export interface SubstitutingOptions extends Omit<SubstituterOptions, 'sources' | 'network'> {
  readonly network: Network;
  /** Returns the addresses of the substituter itself. */
  readonly addresses: () => readonly Endpoint[];
  /** Returns the configured caches. Called when Nix first asks for something. */
  readonly upstreams: () => Promise<readonly Upstream[]>;
  /** Returns the publishers that are followed now. */
  readonly publishers: () => Promise<readonly PublisherAddress[]>;
  /** Publishers that must have a path with the same NarHash. Default: 1, which needs no publisher. */
  readonly require?: number | undefined;
  /** Undefined: caches that announce themselves are not looked for. */
  readonly lanCaches?: Pick<LanCachesOptions, 'interfaceAddress'> | undefined;
}

/** The parts of a daemon that its substituter works with. They are open as long as the daemon. */
export type DaemonMeans = Pick<SubstitutingOptions, 'store' | 'network' | 'http' | 'offer'>;

/** A substituter, with its sources. */
export interface Substituting extends AsyncDisposable {
  readonly substituter: Substituter;
}

/** Opens a substituter of the daemon's store, which fetches the paths that Nix asks for. */
export async function openSubstituter(options: SubstitutingOptions): Promise<Substituting> {
  const { network, http, store, keys, addresses, lanCaches } = options;
  const stack = new AsyncDisposableStack();
  const { members, discovery } = network;
  const mayAppear = (): boolean => discovery.mayMeetNeighbours;
  const neighbours = new NeighbourNarInfos({ members, mayAppear, keys, waitMs: NEIGHBOUR_WAIT_MS });
  const open = async (): Promise<Pick<ActivitySources, 'near' | 'upstreams'>> => {
    const upstreams = (await options.upstreams()).filter((one) => !isOneOf(one, addresses()));
    if (lanCaches === undefined) return { near: [neighbours], upstreams };
    const search = { ...lanCaches, configured: upstreams, http, storeDir: store.storeDir, keys };
    caches = LanCaches.start(search);
    return { near: [neighbours, caches], upstreams };
  };
  let caches: LanCaches | undefined;
  stack.defer(() => caches?.[Symbol.asyncDispose]());
  let opened: ReturnType<typeof open> | undefined;
  const sources = async (): Promise<ActivitySources> => {
    const asked = (opened ??= open());
    asked.catch(() => (opened = undefined));
    return { ...(await asked), publishers: await options.publishers(), require: options.require };
  };
  const substituter = stack.use(new Substituter({ ...options, sources }));
  stack.use(await tellNixWaits(store, () => substituter.isAwaited));
  return { substituter, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Returns true for a cache that is this very substituter, as nix.conf names it. */
function isOneOf({ url }: Upstream, own: readonly Endpoint[]): boolean {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return protocol === 'http:' && isLoopback(host) && own.some((one) => one.port === Number(port || 80));
}
