/** The records of a closure, and of its next editions. */
import type { NarInfo } from '../../src/nix/narinfo.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { RandomStream } from './random.ts';
import { syntheticRecords } from './records.ts';

/** References of each path, as in closures of NixOS. */
const REFERENCES = 10;
/** Paths to which many others refer, such as glibc. */
const BASE_PATHS = 200;

/**
 * How the new paths of an edition lie. A path that refers to a new one is new, too, up to the root. `whole`: all paths
 * below a few packages. `same`: random ones, the same each time. `random`: random ones.
 */
export type Change = 'whole' | 'same' | 'random';

/**
 * A closure that stays of one size over its editions: a tree of paths that also refer to some of the same few paths. Places
 * are those in the tree, the root at 0.
 */
export class Closure {
  #records: NarInfo[];
  #turn: number;

  /** @param seed another one gives another closure */
  constructor(count: number, seed: number) {
    this.#turn = seed;
    this.#records = syntheticRecords(count, { seed });
    this.#refer();
  }

  get records(): readonly NarInfo[] {
    return this.#records;
  }

  get root(): StorePath {
    return this.#records[0]!.storePath;
  }

  /** Replaces a share of the paths. @returns the new records, and the paths that are gone */
  change(share: number, kind: Change): { readonly added: readonly NarInfo[]; readonly removed: readonly StorePath[] } {
    const places = this.#choose(Math.round(this.#records.length * share), kind);
    const fresh = syntheticRecords(places.length, { seed: 100_000 + ++this.#turn });
    const removed = places.map((place) => this.#records[place]!.storePath);
    for (const [index, place] of places.entries()) this.#records[place] = fresh[index]!;
    this.#refer();
    return { added: places.map((place) => this.#records[place]!), removed };
  }

  #choose(count: number, kind: Change): number[] {
    const random = new RandomStream(kind === 'same' ? 'same' : `${this.#turn}`);
    const places: number[] = [];
    const open = [0];
    while (places.length < count) {
      const at = kind === 'whole' && places.length > 2 ? open.length - 1 : Math.floor(random.fraction() * open.length);
      const [place = 0] = open.splice(at, 1);
      places.push(place);
      open.push(...this.#childrenOf(place));
    }
    return places;
  }

  #childrenOf(place: number): number[] {
    const children = Array.from({ length: REFERENCES - 1 }, (_, index) => place * (REFERENCES - 1) + index + 1);
    return children.filter((child) => child < this.#records.length - BASE_PATHS);
  }

  /** Sets the references of all records. */
  #refer(): void {
    const count = this.#records.length;
    const nameAt = (place: number): string => baseNameOf(this.#records[place]!.storePath);
    this.#records = this.#records.map((record, place) => {
      const children = this.#childrenOf(place);
      const isBase = place >= count - BASE_PATHS;
      const base = Array.from({ length: REFERENCES - children.length }, (_, index) =>
        Math.floor((((place * 37 + index * 101) % 997) ** 2 / 997 ** 2) * BASE_PATHS),
      ).map((number) => count - 1 - number);
      const first = isBase ? [] : [count - BASE_PATHS + (place % BASE_PATHS)];
      const references = [...children, ...first, ...base].filter((other) => other !== place);
      return { ...record, references: [...new Set(references.map(nameAt))].toSorted() };
    });
  }
}
