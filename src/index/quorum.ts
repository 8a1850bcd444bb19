import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { parsePublisherAddress } from './address.ts';
import type { HashMap } from './hash-map.ts';

/** The NarHash of a path that a publisher's hash map has. */
interface Vote {
  /** The key that signs the hash map. */
  readonly key: string;
  readonly publisher: string;
  readonly narHash: string;
}

/** A path that publishers have built with different results. */
export interface BuildDifference {
  readonly path: StorePath;
  /** Each result, with the publishers that have it. At least two. */
  readonly builds: readonly {
    readonly narHash: string;
    readonly publishers: readonly string[];
    /** Absolute path of the uncompressed NAR, if it is kept for a comparison. */
    readonly nar?: string;
  }[];
}

/**
 * Several publishers that must have the same contents of a path. A key signs for one builder. If the key or the builder
 * is stolen, its signature is right, but its NarHash differs from the others.
 */
export class Quorum {
  /** Number of publishers that must say the same. */
  readonly require: number;
  readonly #asked: number;
  readonly #maps: () => Promise<readonly HashMap[]>;
  readonly #differences = new Map<StoreHash, BuildDifference>();
  /** Hash maps that could not be read. Each path would wait for them: they are asked only if the others do not suffice. */
  readonly #unreadable = new Set<HashMap>();

  /**
   * @param asked number of publishers that are asked
   * @param maps returns the hash maps of all publishers that have answered, as soon as no other may come
   */
  constructor(require: number, asked: number, maps: () => Promise<readonly HashMap[]>) {
    this.require = require;
    this.#asked = asked;
    this.#maps = maps;
  }

  /** Paths that were looked up and that publishers have built with different results. */
  get differences(): readonly BuildDifference[] {
    return [...this.#differences.values()];
  }

  /**
   * Checks that enough publishers have a path with the NarHash of this narinfo.
   *
   * @throws QUORUM_MISSED with the publishers of each NarHash; the signal's reason
   */
  async confirm(info: NarInfo, signal: AbortSignal): Promise<void> {
    const maps = await this.#maps();
    const ours = `sha256:${info.narHash}`;
    const votes: Vote[] = [];
    for (const map of maps.toSorted((a, b) => +this.#unreadable.has(a) - +this.#unreadable.has(b))) {
      const isEnough = votes.filter((vote) => vote.narHash === ours).length >= this.require;
      if (isEnough && this.#unreadable.has(map)) break;
      const narHash = await this.#narHashIn(map, info.storePath, signal);
      const key = keyOf(map);
      const isCounted = votes.some((vote) => vote.key === key && vote.narHash === narHash);
      if (narHash !== undefined && !isCounted) votes.push({ key, publisher: map.name, narHash });
    }
    const builds = buildsOf(votes);
    if (builds.length > 1) this.#differences.set(storeHashOf(info.storePath), { path: info.storePath, builds });
    const agreeing = builds.find(({ narHash }) => narHash === ours)?.publishers.length ?? 0;
    if (agreeing >= this.require) return;
    const others = builds.filter(({ narHash }) => narHash !== ours);
    const count = new Set(maps.map(keyOf)).size;
    const of = count === 1 ? '1 publisher' : `${count} publishers`;
    const otherwise = others.map(({ narHash, publishers }) => `; ${publishers.join(' and ')} built it as ${narHash}`);
    const isAsked = `--require asks for ${this.require}`;
    const named =
      this.#asked === 0
        ? 'none is named: name them'
        : `only ${this.#asked} ${this.#asked === 1 ? 'is' : 'are'} named: name more`;
    const why =
      this.#asked < this.require && others.length === 0
        ? `${isAsked} publishers with the same NarHash, and ${named} with --publisher, or as publisher in the config file`
        : maps.length === 0
          ? `no publisher was reached, and ${isAsked}`
          : `${agreeing} of ${of} built it as ${ours}, and ${isAsked}${otherwise.join('')}`;
    throw new NarswarmError('QUORUM_MISSED', `${info.storePath}: ${why}`, {
      facts: {
        path: info.storePath,
        why,
        narHash: ours,
        agreeing,
        required: this.require,
        publishers: maps.map(({ name }) => name),
        others: others.flatMap(({ narHash, publishers }) => publishers.map((name) => `${narHash} ${name}`)),
      },
    });
  }

  /** Returns the NarHash of a path in a hash map. Undefined if it has none, or cannot be read. */
  async #narHashIn(map: HashMap, path: StorePath, signal: AbortSignal): Promise<string | undefined> {
    try {
      const record = await map.find(storeHashOf(path), signal);
      return record?.storePath === path ? `sha256:${record.narHash}` : undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (!isNarswarmError(error)) throw error;
      this.#unreadable.add(map);
      return undefined; // a publisher that cannot be read says nothing
    }
  }
}

/** One key is one publisher, whatever the number of its addresses and of its hash maps. */
function keyOf({ name }: HashMap): string {
  return parsePublisherAddress(name).publicKeyHex;
}

/** Groups votes by result: the one with the most votes first, publishers in the order of their names. */
function buildsOf(votes: readonly Vote[]): BuildDifference['builds'] {
  return [...Map.groupBy(votes, ({ narHash }) => narHash)]
    .map(([narHash, same]) => ({ narHash, publishers: same.map(({ publisher }) => publisher).toSorted() }))
    .toSorted((a, b) => b.publishers.length - a.publishers.length || (a.narHash < b.narHash ? -1 : 1));
}
