import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { isAbsentStore } from '../nix/read-derivation.ts';
import type { PublicKey } from '../nix/signature.ts';
import type { FileStore } from '../store/file-store.ts';
import { HashMaps } from './hash-maps.ts';
import type { PrefetchContext, PrefetchOptions } from './prefetch-options.ts';
import type { NearSources } from './near-sources.ts';
import { readRoots } from './roots.ts';
import { Target } from './target.ts';
import type { WalkSources } from './walk.ts';
import type { Warning } from '../warning.ts';

/** All sources of narinfos and NARs of one fetch. The target and the publishers are asked from the start. */
export class FetchSources implements WalkSources, AsyncDisposable {
  readonly store: FileStore;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  readonly target: Target | undefined;
  readonly maps: HashMaps;
  /** Upstreams that are configured. */
  readonly upstreams: readonly Upstream[];
  readonly near: readonly NearSources[];

  readonly #stack: AsyncDisposableStack;

  private constructor(
    { store, http, keys, near = [] }: PrefetchContext,
    { target, maps, upstreams }: Pick<FetchSources, 'target' | 'maps' | 'upstreams'>,
    stack: AsyncDisposableStack,
  ) {
    this.store = store;
    this.http = http;
    this.keys = keys;
    this.target = target;
    this.maps = maps;
    this.near = near;
    this.upstreams = upstreams;
    this.#stack = stack;
  }

  /** All present sources of NARs over HTTP, near ones first. */
  get caches(): readonly Upstream[] {
    return [...this.near.flatMap(({ upstreams }) => upstreams), ...this.upstreams];
  }

  static async open(options: PrefetchOptions, context: PrefetchContext): Promise<FetchSources> {
    const { store, network, http, signal, tell } = context;
    const { publishers, publisherTimeoutMs, to } = options;
    const ordering = context.orderUpstreams?.(options.upstreams);
    ordering?.catch(() => undefined); // awaited below
    await using stack = new AsyncDisposableStack();
    const wantsTarget = options.holdAll !== true && (options.copy || to !== undefined);
    const asksTarget = wantsTarget && !(options.dryRun === true && (await isAbsentStore(to)));
    const target = asksTarget ? stack.use(new Target(to, { signal })) : undefined; // Nix starts meanwhile
    // A name or a whole hash map is nothing without the hash map: then its failure ends the fetch, and is told once.
    const areKnown = options.wholeMaps !== true && readRoots(options.roots).every(({ known }) => known !== undefined);
    const isOptional = areKnown && options.upstreams.length > 0;
    const onWarning = (warning: Warning): void => tell({ type: 'warning', warning });
    const asked = { publishers, publisherTimeoutMs, isOptional };
    const means = { store, network, http, signal, onWarning };
    const maps = context.sharedMaps?.(asked, means) ?? stack.use(new HashMaps(asked, means));
    const upstreams = (await ordering) ?? options.upstreams;
    return new FetchSources(context, { target, maps, upstreams }, stack.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
