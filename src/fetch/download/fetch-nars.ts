import PQueue from 'p-queue';
import { failureOf } from '../../failure.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf } from '../../nix/store-path.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import { claimClosure } from '../plan/claim-closure.ts';
import type { Closure, MissingPath } from '../walk/closure.ts';
import { disputedPaths, fetchRound, type RoundContext } from './fetch-round.ts';
import type { HeadStart } from './head-start.ts';
import type { NarJob } from '../plan/job.ts';
import { attachTorrents, planFetch, type Plan } from '../plan/plan.ts';

/** Narinfos that are requested at the same time. */
const CONCURRENCY = 64;

export interface FetchNarsContext extends RoundContext {
  /**
   * Finds paths that another build refers to and that were not requested before. Returns their closures, and the paths
   * of these that the target lacks (undefined: all).
   */
  readonly extend: (
    hashes: readonly StoreHash[],
    known: Closure,
  ) => Promise<{ readonly closure: Closure; readonly needed: ReadonlySet<StorePath> | undefined }>;
}

/** Result of a fetch. */
export interface FetchedNars {
  /** The given closure, each narinfo with its actual file, and with the references of other builds. */
  readonly closure: Closure;
  /** The NARs that were fetched or read, with their torrents. */
  readonly jobs: readonly NarJob[];
  /** Paths whose NAR was checked against NarHash. */
  readonly checked: readonly StorePath[];
  /** Paths that no source delivered, with the reasons; after an interruption also those that were left out. */
  readonly failures: ReadonlyMap<StorePath, unknown>;
}

/**
 * Fetches the NARs of a plan. For each failed NAR, tries the descriptions of other sources until one works or none is
 * left. Without failures, that is one round.
 *
 * @param headStart fetches NARs of the plan already. Default: none is begun
 * @throws STORE_FULL, STORE_UNWRITABLE at once
 */
export async function fetchNars(
  plan: Plan,
  closure: Closure,
  context: FetchNarsContext,
  headStart?: HeadStart,
): Promise<FetchedNars> {
  const rounds = new Rounds(closure, context);
  await rounds.fetch(plan, headStart);
  return rounds.run();
}

/**
 * Fetches other sources' versions of paths whose NAR turned out to be useless.
 *
 * @param failures the failure of each path
 * @throws as {@link fetchNars}
 */
export async function fetchInstead(
  failures: ReadonlyMap<StorePath, unknown>,
  closure: Closure,
  context: FetchNarsContext,
): Promise<FetchedNars> {
  return new Rounds(closure, context, failures).run();
}

/** Yields the paths that could not be fetched, each with the reason. */
export function* missingOf(failures: ReadonlyMap<StorePath, unknown>): Generator<[StoreHash, MissingPath]> {
  for (const [path, failure] of failures) {
    yield [storeHashOf(path), { path, isNowhere: false, ...failureOf(failure) }];
  }
}

class Rounds {
  readonly #context: FetchNarsContext;
  readonly #closure: Map<StoreHash, NarInfo>;
  readonly #jobs: NarJob[] = [];
  readonly #checked: StorePath[] = [];
  /** The first failure of each path, which comes from its expected source. */
  readonly #first = new Map<StorePath, unknown>();
  /** Paths without a remaining source. */
  readonly #lacking = new Map<StorePath, unknown>();
  /** Failures of the last round. */
  #failures: ReadonlyMap<StorePath, unknown>;
  /** Paths of the last round that shared a file with a path of other contents. */
  #disputed: ReadonlySet<StorePath> = new Set();

  constructor(closure: Closure, context: FetchNarsContext, failures: ReadonlyMap<StorePath, unknown> = new Map()) {
    this.#closure = new Map(closure);
    this.#context = context;
    this.#failures = failures;
  }

  async run(): Promise<FetchedNars> {
    for (;;) {
      const others = await this.#others();
      if (others.size === 0) break;
      await this.fetch(await this.#planOf(others));
    }
    return { closure: this.#closure, jobs: this.#jobs, checked: this.#checked, failures: this.#lacking };
  }

  async fetch(plan: Plan, headStart?: HeadStart): Promise<void> {
    // These narinfos are tried next.
    for (const info of plan.unsized) this.#closure.set(storeHashOf(info.storePath), info);
    const { infos, jobs, checked, failures } = await fetchRound(plan, this.#closure, this.#context, headStart);
    for (const [hash, info] of infos) this.#closure.set(hash, info);
    this.#jobs.push(...jobs);
    this.#checked.push(...checked);
    this.#failures = failures;
    this.#disputed = disputedPaths(plan);
  }

  /** Returns the next narinfos to try for the failures of the last round. */
  async #others(): Promise<Map<StoreHash, NarInfo>> {
    const { candidates, order, tell, signal } = this.#context;
    const isLiar = (upstream: Upstream): boolean => order.isLiar(upstream);
    const disputed = this.#disputed;
    const others = new Map<StoreHash, NarInfo>();
    const find = async ([path, failure]: readonly [StorePath, unknown]): Promise<void> => {
      const hash = storeHashOf(path);
      const info = this.#closure.get(hash);
      const before = candidates.originOf(hash);
      const other =
        info === undefined || signal.aborted
          ? undefined
          : await candidates.next(info, failure, signal, { isLiar, isDisputed: disputed.has(path) }).catch(ended);
      const first = this.#first.get(path) ?? failure;
      this.#first.set(path, first);
      if (other === undefined) {
        this.#lacking.set(path, first);
        return;
      }
      others.set(hash, other);
      const origin = candidates.originOf(hash);
      const source = origin === before ? undefined : (origin?.name ?? 'another source');
      tell({ type: 'warning', warning: { kind: 'other-description', failure: failureOf(failure), source } });
    };
    const ended = (error: unknown): undefined => {
      if (!signal.aborted) throw error;
    };
    const queue = new PQueue({ concurrency: CONCURRENCY });
    await queue.addAll([...this.#failures].map((one) => () => find(one)));
    return others;
  }

  /** Adds other narinfos, and the references of other builds. */
  async #planOf(others: ReadonlyMap<StoreHash, NarInfo>): Promise<Plan> {
    const { extend, store, candidates, torrentOf, signal } = this.#context;
    for (const [hash, info] of others) this.#closure.set(hash, info);
    const referred = [...others.values()].flatMap(({ references }) => references.map(hashPartOf));
    const unknown = new Set(referred.filter((hash) => !this.#closure.has(hash)));
    const more = await extend([...unknown], this.#closure);
    for (const [hash, info] of more.closure) this.#closure.set(hash, info);
    const found = await claimClosure(new Map([...others, ...more.closure]), this.#context);
    const plan = await planFetch(found, {
      store,
      catalogue: await Catalogue.open(store),
      needed: more.needed && new Set([...more.needed, ...Array.from(others.values(), ({ storePath }) => storePath)]),
      cacheOf: (info) => candidates.cacheOf(info),
      preferred: true,
      signal,
    });
    await attachTorrents(plan.jobs, torrentOf);
    return plan;
  }
}

function hashPartOf(baseName: string): StoreHash {
  return parseStoreHash(baseName.slice(0, 32));
}
