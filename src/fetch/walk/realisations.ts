import PQueue from 'p-queue';
import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { realisationsOf } from '../../index/record.ts';
import { isFixedOutput } from '../../nix/derivations/derivation.ts';
import type { StorePath } from '../../nix/brands.ts';
import { LocalDerivations } from '../../nix/derivations/local-derivations.ts';
import {
  buildTraceFile,
  isTrustedRealisation,
  madeBy,
  MAX_REALISATION_BYTES,
  parseRealisation,
  realisationFile,
  type Made,
  type Realisation,
} from '../../nix/realisation.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { baseNameOf, parseStoreHash, storePathFromBaseName } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { readRealisation } from '../../store/realisations.ts';
import type { Closure } from './closure.ts';
import type { NarInfoSource } from '../sources/narinfo-sources.ts';

/** Files that are requested at the same time. */
const CONCURRENCY = 16;
/** Missing entries of a build trace in a row after which a cache is assumed to have none. */
const MISSES = 4;

/** Time for a cache that nobody has configured, as for its narinfos. */
const ANNOUNCED_MS = 600;

/** Means of a search. */
interface SearchContext {
  readonly store: FileStore;
  readonly upstreams: readonly Upstream[];
  readonly http: HttpClient;
  /** Hash maps, whose records have the realisations of their paths. */
  readonly maps: readonly NarInfoSource[];
  readonly keys: readonly PublicKey[];
  readonly signal: AbortSignal;
}

/**
 * Finds the realisations of a closure: those of paths that a content-addressed derivation made, and of their
 * dependencies. Without them, the next machine builds the same paths again. Caches cannot list them, so caches are
 * asked by derivation if it is known here, and hash maps by path.
 *
 * Never fails: leaves out realisations that cannot be found or that no trusted key has signed. A signal ends it with
 * its results so far.
 */
export async function findRealisations(closure: Closure, context: SearchContext): Promise<Realisation[]> {
  const made = [...closure.values()].flatMap((info) => madeBy(info) ?? []);
  return made.length === 0 ? [] : new Search(context).run(made);
}

/**
 * Finds the path of an output of a derivation, by a realisation in the file store or a cache. The .drv files must be on
 * this machine, as an evaluation leaves them. Undefined if no realisation is found that a trusted key has signed.
 */
export async function realisedPath(
  drvPath: StorePath,
  outputName: string,
  context: Omit<SearchContext, 'maps'>,
): Promise<StorePath | undefined> {
  const { store, keys } = context;
  const hash = await new LocalDerivations(store.storeDir).hashOf(baseNameOf(drvPath));
  if (hash === undefined) return undefined;
  const file = realisationFile(hash, outputName);
  const sources = [
    () => readRealisation(file, store),
    ...context.upstreams.map((one) => () => ask(one, file, context)),
  ];
  for (const find of sources) {
    const found = await find();
    if (found !== undefined && isTrustedRealisation(found, keys)) {
      return storePathFromBaseName(found.outPath, store.storeDir);
    }
  }
  return undefined;
}

/**
 * Returns the realisation in a file, from the file store or a cache. All caches are asked at once. Undefined if none has
 * one that a trusted key has signed.
 *
 * @param file as {@link realisationFile} or {@link buildTraceFile} names it
 */
export async function realisationIn(
  file: string,
  { store, upstreams, keys, ...context }: Omit<SearchContext, 'maps'>,
): Promise<Realisation | undefined> {
  const held = await readRealisation(file, store);
  if (held !== undefined && isTrustedRealisation(held, keys)) return held;
  const asked = upstreams.map(async (one) => {
    const found = await ask(one, file, context);
    return found !== undefined && isTrustedRealisation(found, keys) ? found : Promise.reject(NOTHING);
  });
  return Promise.any(asked).catch(() => undefined);
}

const NOTHING = new Error('a cache does not have a realisation');

/** Asks a cache for a realisation. Undefined if it has none, or fails. */
async function ask(
  upstream: Upstream,
  file: string,
  { http, signal }: Pick<SearchContext, 'http' | 'signal'>,
): Promise<Realisation | undefined> {
  const { isAnnounced } = upstream;
  const inTime = isAnnounced ? AbortSignal.any([signal, AbortSignal.timeout(ANNOUNCED_MS)]) : signal;
  const options = { maxBytes: MAX_REALISATION_BYTES, signal: inTime, retries: 0, givesWay: true, isAnnounced };
  const bytes = await http.getBytes(`${upstream.url}/${file}`, options).catch(() => undefined);
  return bytes && parseRealisation(file, new TextDecoder().decode(bytes));
}

class Search {
  readonly #context: SearchContext;
  readonly #derivations: LocalDerivations;
  readonly #queue = new PQueue({ concurrency: CONCURRENCY });
  readonly #found = new Map<string, Realisation>();
  readonly #asked = new Set<string>();
  /** Missing entries in a row of each cache. Undefined once a cache had one. */
  readonly #misses = new Map<Upstream, number | undefined>();

  constructor(context: SearchContext) {
    this.#context = context;
    this.#derivations = new LocalDerivations(context.store.storeDir);
  }

  async run(made: readonly Made[]): Promise<Realisation[]> {
    for (const one of made) this.#start(() => this.#findOf(one));
    await this.#queue.onIdle();
    return [...this.#found.values()];
  }

  #start(work: () => Promise<void>): void {
    void this.#queue.add(async () => {
      if (!this.#context.signal.aborted) await work().catch(() => undefined);
    });
  }

  async #findOf({ outPath, deriver, derivationName, outputName }: Made): Promise<void> {
    const derivation = await this.#derivations.find(deriver);
    if (derivation !== undefined && isFixedOutput(derivation)) return;
    const hashes = await this.#derivations.hashesOf(derivationName, outputName);
    for (const hash of hashes) this.#want(realisationFile(hash, outputName), outPath);
    this.#want(buildTraceFile(deriver, outputName), outPath);
    await this.#askMaps(outPath);
  }

  #want(file: string, outPath: string): void {
    if (this.#asked.has(file)) return;
    this.#asked.add(file);
    this.#start(async () => {
      const held = await readRealisation(file, this.#context.store);
      if (!this.#take(held, outPath)) await this.#askUpstreams(file, outPath);
      if (!this.#found.has(file)) await this.#askMaps(outPath);
    });
  }

  async #askUpstreams(file: string, outPath: string): Promise<void> {
    const isTrace = file.startsWith('build-trace');
    for (const upstream of this.#context.upstreams) {
      if (isTrace && (this.#misses.get(upstream) ?? 0) >= MISSES) continue;
      const found = await ask(upstream, file, this.#context);
      if (isTrace) this.#note(upstream, found !== undefined);
      if (this.#take(found, outPath)) return;
    }
  }

  #note(upstream: Upstream, isHit: boolean): void {
    if (isHit) this.#misses.set(upstream, undefined);
    else if (!this.#misses.has(upstream)) this.#misses.set(upstream, 1);
    else this.#misses.set(upstream, (this.#misses.get(upstream) ?? -Infinity) + 1);
  }

  async #askMaps(outPath: string): Promise<void> {
    const { maps, signal } = this.#context;
    for (const map of maps) {
      const record = await map.find(parseStoreHash(outPath.slice(0, 32)), signal).catch(() => undefined);
      for (const realisation of record === undefined ? [] : realisationsOf(record)) this.#take(realisation, outPath);
    }
  }

  /**
   * Adds a realisation of that path, and looks for its dependencies. Returns false if it is malformed or not trusted.
   */
  #take(realisation: Realisation | undefined, outPath: string): boolean {
    if (realisation?.outPath !== outPath || !isTrustedRealisation(realisation, this.#context.keys)) return false;
    this.#found.set(realisation.file, realisation);
    this.#asked.add(realisation.file);
    for (const [file, path] of realisation.dependents) this.#want(file, path);
    return true;
  }
}
