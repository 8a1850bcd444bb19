import { inState } from '../../store/state-folder.ts';
import { NarswarmError, isNarswarmError } from '../../errors.ts';
import { formatPublisherAddress, type PublisherAddress } from '../../index/address.ts';
import type { HashMap } from '../../index/hash-map.ts';
import { indexDirOf } from '../../index/files/index-dir.ts';
import type { Resolved } from '../../index/resolve/open-map.ts';
import { resolveHashMap } from '../../index/resolve/resolve.ts';
import { withinBudget, type MapBudget, type WithinBudget } from '../../index/within-budget.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { quote } from '../../nix/quote.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { Network } from '../../swarm/network.ts';
import { MapRecords } from './map-records.ts';
import type { NarInfoSource } from './narinfo-sources.ts';
import { withSafeUrl } from '../plan/named-file.ts';
import type { HttpClient } from '../../http/client.ts';
import { asError, type Warn } from '../../warning.ts';
import { withinMs } from '../../within.ts';

/** Time for the publishers from the start of a fetch that has other sources, too. Then these begin without the maps. */
const GRACE_MS = 1_500;
/** The least time after the walk, for the shards of a hash map that has just answered. */
const LEAST_GRACE_MS = 500;

/** Means of resolving the hash maps. Close the hash maps before these. */
export interface HashMapsContext {
  readonly store: FileStore;
  /** Undefined: only mirrors can be asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** Milliseconds of a clock. Default: `performance.now`. */
  readonly now?: () => number;
}

export interface HashMapsOptions {
  readonly publishers: readonly PublisherAddress[];
  /** Milliseconds to look for the publishers. */
  readonly publisherTimeoutMs: number;
  /** True if a closure can be fetched without any hash map: then a failed publisher only causes a warning. */
  readonly isOptional: boolean;
}

/** A hash map that may not be the newest of its publisher. */
export interface MapDoubt {
  /** `member`: newer than the kept edition. */
  readonly from: 'member' | 'kept';
  /** The reason why the publisher did not confirm it. */
  readonly failure: NarswarmError;
  /** Time of signing of that edition. */
  readonly created: Date;
}

/**
 * The publishers' hash maps. Starts to resolve them at once, and uses them in the order of the answers. So a silent
 * publisher does not delay the use of another's hash map. Disposing of it ends all pending look-ups.
 */
export class HashMaps implements AsyncDisposable {
  readonly #options: HashMapsOptions;
  readonly #now: () => number;
  readonly #beganAtMs: number;
  readonly #stop = new AbortController();
  /** One promise for the first answer, one for the second, and so on, as many as publishers. */
  readonly #outcomes: PromiseWithResolvers<Resolved | undefined>[];
  /** The outcomes so far; undefined for a failed publisher. */
  readonly #answered: (Resolved | undefined)[] = [];
  readonly #failures: unknown[] = [];
  readonly #settled: Promise<HashMap[]>;
  /** Their records of single NARs. */
  readonly records: MapRecords = new MapRecords(this);
  /** Number of answers when a fetch last waited in vain. */
  #answersInVain = -1;

  constructor(options: HashMapsOptions, context: HashMapsContext) {
    this.#options = options;
    this.#now = context.now ?? (() => performance.now());
    this.#beganAtMs = this.#now();
    this.#outcomes = options.publishers.map(() => Promise.withResolvers<Resolved | undefined>());
    const signal = AbortSignal.any([context.signal, this.#stop.signal]);
    for (const address of options.publishers) void this.#resolve(address, { ...context, signal });
    this.#settled = this.#settle({ ...context, signal });
    this.#settled.catch(() => undefined); // awaited only if the hash maps are needed
  }

  /**
   * Waits until every publisher has answered or its time is over.
   *
   * @throws the first failure, if none answered and no upstream makes up for them; the signal's reason
   */
  settled(): Promise<HashMap[]> {
    return this.#settled;
  }

  /** Returns the hash maps that have answered so far. */
  get answered(): HashMap[] {
    return this.#answered.flatMap((resolved) => resolved?.map ?? []);
  }

  /** True once every publisher has answered or its time is over. */
  get isSettled(): boolean {
    return this.#answered.length === this.#outcomes.length;
  }

  /**
   * Milliseconds for which a fetch with other sources may wait for the publishers. A silent hash map must not make it
   * slower than plain Nix. The walk counts, since the publishers had that time, too.
   */
  get graceMs(): number {
    return Math.max(LEAST_GRACE_MS, GRACE_MS - (this.#now() - this.#beganAtMs));
  }

  /**
   * Waits for work that the publishers, or peers with a shard, may delay, for {@link graceMs}. After a wait in vain the
   * next one ends at once until another publisher has answered, so that a run of several fetches waits once.
   *
   * @returns true if it takes longer: then the other sources should begin
   * @throws as the work, if it fails meanwhile
   */
  async areLateFor(work: Promise<void>): Promise<boolean> {
    const isVain = this.#answersInVain === this.#answered.length;
    const isDone = await withinMs(
      isVain ? 0 : this.graceMs,
      work.then(() => true),
    );
    if (isDone === undefined) this.#answersInVain = this.#answered.length;
    return isDone === undefined;
  }

  /** Returns the path of a named root, as soon as a publisher that names it has answered. @throws ROOT_UNKNOWN */
  async root(name: string): Promise<StorePath> {
    const names = new Set<string>();
    for (const { promise } of this.#outcomes) {
      const roots = (await promise)?.map.manifest.roots ?? [];
      const root = roots.find((candidate) => candidate.name === name);
      if (root !== undefined) return root.path;
      for (const candidate of roots) names.add(candidate.name);
    }
    await this.settled().catch((error: unknown) => {
      throw withRoot(error, name);
    });
    if (this.#failures.length > 0) throw withRoot(this.#failures[0], name);
    const known = [...names];
    const inWords =
      this.#outcomes.length === 0
        ? 'no hash map was asked: name one with --publisher'
        : known.length === 0
          ? 'no hash map names any root'
          : `the hash maps name: ${known.slice(0, 20).join(', ')}`;
    throw new NarswarmError(
      'ROOT_UNKNOWN',
      `${quote(name)} is neither a store path nor the hash part of one nor the name of a root (${inWords})`,
      { facts: { root: name, named: known } },
    );
  }

  /**
   * Returns every path with a record in the hash maps; from each hash map as many as {@link withinBudget} chooses.
   *
   * @throws the first publisher's failure, even if there is an upstream: without the hash map it is not known what to
   *   fetch; INDEX_UNREACHABLE for a shard
   */
  async storeHashes(budget: MapBudget, signal: AbortSignal): Promise<WithinBudget> {
    const hashes = new Set<StoreHash>();
    const leftOut: string[] = [];
    let beyond = { paths: 0, bytes: 0 };
    const maps = await this.settled();
    if (this.#failures.length > 0) throw this.#failures[0];
    for (const map of maps) {
      const chosen = await withinBudget(map, budget, signal);
      for (const hash of chosen.hashes) hashes.add(hash);
      leftOut.push(...chosen.leftOut);
      beyond = { paths: beyond.paths + chosen.beyond.paths, bytes: beyond.bytes + chosen.beyond.bytes };
    }
    return { hashes: [...hashes], leftOut, beyond };
  }

  /** Returns the hash maps as sources of narinfos that do not wait. A hash map without an answer so far has nothing. */
  ready(): NarInfoSource[] {
    const mapOf = (turn: number): HashMap | undefined => this.#answered[turn]?.map;
    return this.#sources(mapOf, (hash, turn) => {
      const map = mapOf(turn);
      const record = map === undefined ? 'absent' : map.peek(hash);
      return record === undefined || record === 'absent' ? record : withSafeUrl(record);
    });
  }

  /** Returns the hash maps as sources that wait for the publishers, for paths that no other source has. */
  awaited(): NarInfoSource[] {
    return this.#sources(async (turn) => {
      const map = (await this.#outcomes[turn]?.promise)?.map;
      if (turn === this.#outcomes.length - 1) await this.settled(); // throws if all failed
      return map;
    });
  }

  /** The hash maps so far that their publishers did not confirm, with the reasons. */
  get doubts(): MapDoubt[] {
    return this.#answered.flatMap((resolved) => {
      const failure = resolved?.failure;
      return resolved !== undefined && resolved.from !== 'network' && isNarswarmError(failure)
        ? { from: resolved.from, failure, created: resolved.map.manifest.created }
        : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new NarswarmError('INTERRUPTED', 'the hash maps are no longer needed'));
    const outcomes = await Promise.all(this.#outcomes.map(({ promise }) => promise));
    await Promise.all(outcomes.flatMap((resolved) => resolved?.[Symbol.asyncDispose]() ?? []));
  }

  /** Resolves one publisher's hash map, and settles the next promise with it. Never rejects. */
  async #resolve(address: PublisherAddress, context: HashMapsContext): Promise<void> {
    const { http, network, signal, onWarning } = context;
    const resolved = await resolveHashMap(address, {
      network,
      getBytes: (url, limits) => http.getBytes(url, limits),
      dir: inState(context.store, 'index'),
      now: new Date(),
      timeoutMs: this.#options.publisherTimeoutMs,
      asksMembers: true,
      signal,
      onWarning,
    }).catch((error: unknown) => {
      this.#failures.push(this.#options.publishers.length > 1 ? named(address, error) : error);
      return undefined;
    });
    const dir = indexDirOf(inState(context.store, 'index'), address);
    const proof = await dir.proof().catch(() => undefined);
    if (proof !== undefined) onWarning({ kind: 'two-histories', publisher: formatPublisherAddress(address), proof });
    const turn = this.#answered.push(resolved) - 1;
    this.#outcomes[turn]?.resolve(resolved);
  }

  async #settle({ signal, onWarning }: HashMapsContext): Promise<HashMap[]> {
    const outcomes = await Promise.all(this.#outcomes.map(({ promise }) => promise));
    const maps = outcomes.flatMap((resolved) => resolved?.map ?? []);
    if (this.#failures.length === 0) return maps;
    signal.throwIfAborted();
    // With an upstream, the closure can be fetched without hash maps. Without one, the first failure is the reason why
    // not.
    if (maps.length === 0 && !this.#options.isOptional) throw this.#failures[0];
    for (const failure of this.#failures) onWarning({ kind: 'failed', error: asError(failure) });
    return maps;
  }

  /** Returns one source per hash map, not one for all. If one lies or cannot be reached, the next is asked. */
  #sources(
    mapOf: (turn: number) => HashMap | undefined | Promise<HashMap | undefined>,
    peek: (hash: StoreHash, turn: number) => NarInfo | 'absent' | undefined = () => undefined,
  ): NarInfoSource[] {
    return this.#outcomes.map((_, turn) => ({
      name: 'the hash map',
      peek: (hash) => peek(hash, turn),
      mayStall: true, // a shard may have no source
      find: async (hash, signal) => {
        const record = await (await mapOf(turn))?.find(hash, signal);
        return record && withSafeUrl(record);
      },
    }));
  }
}

/** Names the publisher, if there are several. */
function named(address: PublisherAddress, error: unknown): unknown {
  if (!isNarswarmError(error) || error.facts['publisher'] !== undefined) return error;
  return new NarswarmError(error.code, `${formatPublisherAddress(address)}: ${error.message}`, {
    cause: error,
    facts: { ...error.facts, publisher: formatPublisherAddress(address) },
  });
}

/** Adds the root that was looked for to a failure. It may be a word of another kind, misspelt. */
function withRoot(failure: unknown, root: string): unknown {
  if (!isNarswarmError(failure)) return failure;
  return new NarswarmError(failure.code, failure.message, { cause: failure, facts: { ...failure.facts, root } });
}
