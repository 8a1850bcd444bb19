import type { HttpClient } from '../../http/client.ts';
import type { NarHash } from '../../nix/brands.ts';
import type { Upstream } from '../../http/upstream.ts';
import { isAbsentStore } from '../../nix/store-place.ts';
import type { PublicKey } from '../../nix/signature.ts';
import type { FileStore } from '../../store/file-store.ts';
import { mapFolder } from '../../index/address.ts';
import type { HashMap } from '../../index/hash-map.ts';
import { Quorum } from '../../index/quorum.ts';
import { HashMaps, type HashMapsOptions } from './hash-maps.ts';
import type { PrefetchContext, PrefetchOptions } from '../prefetch-options.ts';
import type { NearSources } from './near-sources.ts';
import { readRoots } from '../walk/roots.ts';
import { Target } from '../plan/target.ts';
import type { WalkSources } from '../walk/walk.ts';
import type { Warning } from '../../warning.ts';

/** All sources of narinfos and NARs of one fetch. The target and the publishers are asked from the start. */
export class FetchSources implements WalkSources, AsyncDisposable {
  readonly store: FileStore;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  readonly target: Target | undefined;
  readonly maps: HashMaps;
  /** Undefined: no publisher needs to confirm a path. */
  readonly quorum: Quorum | undefined;
  readonly narHash: NarHash | undefined;
  /** Upstreams that are configured. */
  readonly upstreams: readonly Upstream[];
  readonly near: readonly NearSources[];

  readonly #stack: AsyncDisposableStack;

  private constructor(
    { store, http, keys, near = [] }: PrefetchContext,
    parts: Pick<FetchSources, 'target' | 'maps' | 'quorum' | 'narHash' | 'upstreams'>,
    stack: AsyncDisposableStack,
  ) {
    this.store = store;
    this.http = http;
    this.keys = keys;
    this.target = parts.target;
    this.maps = parts.maps;
    this.quorum = parts.quorum;
    this.narHash = parts.narHash;
    this.near = near;
    this.upstreams = parts.upstreams;
    this.#stack = stack;
  }

  /** All present sources of NARs over HTTP, near ones first. */
  get caches(): readonly Upstream[] {
    return [...this.near.flatMap(({ upstreams }) => upstreams), ...this.upstreams];
  }

  static async open(options: PrefetchOptions, context: PrefetchContext): Promise<FetchSources> {
    const { store, network, http, signal, tell } = context;
    const { publishers, publisherTimeoutMs, to, require = 1, voters = [] } = options;
    const ordering = context.orderUpstreams?.(options.upstreams);
    ordering?.catch(() => undefined); // awaited below
    await using stack = new AsyncDisposableStack();
    const wantsTarget = options.holdAll !== true && (options.copy || to !== undefined);
    const asksTarget = wantsTarget && !(options.dryRun === true && (await isAbsentStore(to)));
    const target = asksTarget ? stack.use(new Target(to, { signal })) : undefined; // Nix starts meanwhile
    // Names and whole hash maps need the hash map: then its failure ends the fetch, and is reported once.
    const areKnown = options.wholeMaps !== true && readRoots(options.roots).every(({ known }) => known !== undefined);
    const isOptional = areKnown && options.upstreams.length > 0;
    const onWarning = (warning: Warning): void => tell({ type: 'warning', warning });
    const means = { store, network, http, signal, onWarning };
    const open = (some: Pick<HashMapsOptions, 'publishers' | 'isOptional'>): HashMaps => {
      const all = { ...some, publisherTimeoutMs };
      return context.sharedMaps?.(all, means) ?? stack.use(new HashMaps(all, means));
    };
    const maps = open({ publishers, isOptional });
    const others = voters.filter((voter) => !publishers.some((one) => mapFolder(one) === mapFolder(voter)));
    const votes = require === 1 || others.length === 0 ? maps : open({ publishers: others, isOptional: true });
    const asked = new Set([...publishers, ...voters].map(({ publicKeyHex }) => publicKeyHex)).size;
    const quorum = require === 1 ? undefined : new Quorum(require, asked, async () => bothOf(maps, votes));
    const upstreams = (await ordering) ?? options.upstreams;
    return new FetchSources(context, { target, maps, quorum, narHash: options.narHash, upstreams }, stack.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Returns the hash maps of both, without repetition. */
async function bothOf(maps: HashMaps, others: HashMaps): Promise<HashMap[]> {
  return [...new Set([...(await maps.settled()), ...(await others.settled())])];
}
