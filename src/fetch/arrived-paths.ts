import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileFacts } from '../store/catalogue-entry.ts';
import { FileStore } from '../store/file-store.ts';
import type { Closure } from './closure.ts';
import { hashIn, placesOf } from './import-order.ts';
import { namedFile } from './named-file.ts';
import type { ArrivedNar } from './nar-decoding.ts';

/** A path whose NAR is in the file store. */
export interface Arrived extends ArrivedNar {
  readonly file: FileFacts;
}

/** The paths of a closure whose NARs are in the file store, and the order in which they can be imported. */
export class ArrivedPaths {
  readonly #store: FileStore;
  /** The place of each path in the best order. */
  readonly #places: ReadonlyMap<StoreHash, number>;
  /** Paths that the target holds. */
  readonly #valid = new Set<StoreHash>();
  /** Paths whose referrers may follow. */
  readonly #begun = new Set<StoreHash>();
  readonly #arrived = new Map<StoreHash, Arrived>();
  /** Arrived paths that refer to each path that is not begun. */
  readonly #referrers = new Map<StoreHash, Arrived[]>();
  /** Arrived paths whose references are begun. */
  readonly #waiting = new Set<Arrived>();

  /** @param needed paths that the target lacks */
  constructor(closure: Closure, needed: ReadonlySet<StorePath>, store: FileStore) {
    this.#store = store;
    for (const [hash, { storePath }] of closure) if (!needed.has(storePath)) this.#valid.add(hash);
    this.#places = placesOf(closure);
  }

  /** Paths that the target holds. */
  get valid(): ReadonlySet<StoreHash> {
    return this.#valid;
  }

  /** Paths that can be begun, since their references are. */
  get waiting(): ReadonlySet<Arrived> {
    return this.#waiting;
  }

  /** Yields all that have arrived. */
  values(): IterableIterator<Arrived> {
    return this.#arrived.values();
  }

  has({ storePath }: Pick<NarInfo, 'storePath'>): boolean {
    return this.#arrived.has(storeHashOf(storePath));
  }

  /** Returns the place of a path in the best order, from 0 for the first to 1. */
  placeOf({ storePath }: Pick<NarInfo, 'storePath'>): number {
    return this.#places.get(storeHashOf(storePath)) ?? 1;
  }

  /** Adds a path that the target lacks, if its NAR is there. */
  add(info: NarInfo): void {
    const hash = storeHashOf(info.storePath);
    if (this.#valid.has(hash) || this.#arrived.has(hash)) return;
    const arrived = this.#find(info);
    if (arrived === undefined) return;
    this.#arrived.set(hash, arrived);
    for (const other of info.references.map(hashIn)) {
      if (other === hash || this.#valid.has(other) || this.#begun.has(other)) continue;
      arrived.missing++;
      this.#referrers.set(other, [...(this.#referrers.get(other) ?? []), arrived]);
    }
    if (arrived.missing === 0) this.#waiting.add(arrived);
  }

  /** Returns the waiting path that is best begun. Undefined if none waits. */
  first(): Arrived | undefined {
    let first: Arrived | undefined;
    for (const one of this.#waiting)
      if (first === undefined || this.placeOf(one.info) < this.placeOf(first.info)) first = one;
    return first;
  }

  /** Lets the referrers of a waiting path follow it. */
  begin(arrived: Arrived): void {
    this.#waiting.delete(arrived);
    const hash = storeHashOf(arrived.info.storePath);
    this.#begun.add(hash);
    for (const referrer of this.#referrers.get(hash) ?? []) if (--referrer.missing === 0) this.#waiting.add(referrer);
    this.#referrers.delete(hash);
  }

  /** Records that the target has a path. */
  noteValid({ storePath }: Pick<NarInfo, 'storePath'>): void {
    this.#valid.add(storeHashOf(storePath));
  }

  #find(info: NarInfo): Arrived | undefined {
    const named = namedFile(info);
    if (named === undefined) return undefined;
    const { fileHash, extension } = named;
    const local = { ...info, url: FileStore.narUrl(fileHash, extension) };
    const found = this.#store.statNarNow(local);
    return found && { info: local, file: { fileHash, extension, ...found }, missing: 0, decoded: undefined };
  }
}
