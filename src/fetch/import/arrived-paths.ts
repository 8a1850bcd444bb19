import type { FileHash, StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { FileFacts } from '../../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../store/file-store.ts';
import type { Closure } from '../walk/closure.ts';
import { hashIn, placesOf } from './import-order.ts';
import { namedFile } from '../plan/named-file.ts';

/** A path whose NAR is in the file store. */
export interface Arrived {
  /** Its narinfo, with the store's name of the NAR. */
  readonly info: NarInfo;
  readonly file: FileFacts & { readonly fileHash: FileHash };
}

/** The paths of a closure whose NARs are in the file store, and the order in which they can be imported. */
export class ArrivedPaths {
  readonly #store: FileStore;
  /** The place of each path in the best order. */
  readonly #places: ReadonlyMap<StoreHash, number>;
  /** Paths that the target holds. */
  readonly #valid = new Set<StoreHash>();
  readonly #arrived = new Map<StoreHash, Arrived>();
  /** The paths that wait for each path, and the number of paths that each waits for. */
  readonly #referrers = new Map<StoreHash, Arrived[]>();
  readonly #missing = new Map<Arrived, number>();
  /** The paths that can be imported now, the best one last. There may be thousands, and the best is asked for at each event. */
  readonly #importable: Arrived[] = [];
  readonly #begun = new Set<Arrived>();

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

  /** Yields all that have arrived. */
  values(): IterableIterator<Arrived> {
    return this.#arrived.values();
  }

  /** Number of paths that are not begun. */
  get waitingCount(): number {
    return this.#arrived.size - this.#begun.size;
  }

  /** Returns the paths that are not begun, in the best order: references first. */
  waiting(): Arrived[] {
    const waiting = [...this.#arrived.values()].filter((arrived) => !this.#begun.has(arrived));
    return waiting.toSorted((a, b) => this.placeOf(a.info) - this.placeOf(b.info));
  }

  /** Returns the place of a path in the best order, from 0 for the first to 1. */
  placeOf({ storePath }: Pick<NarInfo, 'storePath'>): number {
    return this.#places.get(storeHashOf(storePath)) ?? 1;
  }

  /** Adds a path that the target lacks, if its NAR is there. @returns it, if it is new */
  add(info: NarInfo): Arrived | undefined {
    const hash = storeHashOf(info.storePath);
    if (this.#valid.has(hash) || this.#arrived.has(hash)) return undefined;
    const arrived = this.#find(info);
    if (arrived === undefined) return undefined;
    this.#arrived.set(hash, arrived);
    const missing = info.references.map(hashIn).filter((other) => other !== hash && !this.#valid.has(other));
    for (const other of missing) this.#referrers.set(other, [...(this.#referrers.get(other) ?? []), arrived]);
    if (missing.length === 0) this.#offer(arrived);
    else this.#missing.set(arrived, missing.length);
    return arrived;
  }

  /** Returns true if the NAR of a path is there. */
  has({ storePath }: Pick<NarInfo, 'storePath'>): boolean {
    return this.#arrived.has(storeHashOf(storePath));
  }

  /** Returns true if the target lacks a path and has its references. */
  isImportable({ storePath, references }: Pick<NarInfo, 'storePath' | 'references'>): boolean {
    const hash = storeHashOf(storePath);
    if (this.#valid.has(hash)) return false;
    return references.map(hashIn).every((other) => other === hash || this.#valid.has(other));
  }

  /** Returns the path that is best imported now: its references are valid. Undefined if there is none. */
  first(): Arrived | undefined {
    return this.#importable.at(-1);
  }

  /** Records that the import of a path has begun. */
  begin(arrived: Arrived): void {
    const index = this.#importable.lastIndexOf(arrived);
    if (index >= 0) this.#importable.splice(index, 1);
    this.#begun.add(arrived);
  }

  /** Takes that back. */
  beginAgain(arrived: Arrived): void {
    this.#begun.delete(arrived);
    this.#offer(arrived);
  }

  /** Records that the target has a path. */
  noteValid({ storePath }: Pick<NarInfo, 'storePath'>): void {
    const hash = storeHashOf(storePath);
    this.#valid.add(hash);
    for (const referrer of this.#referrers.get(hash) ?? []) {
      const missing = (this.#missing.get(referrer) ?? 0) - 1;
      this.#missing.set(referrer, missing);
      if (missing === 0 && !this.#begun.has(referrer)) this.#offer(referrer);
    }
    this.#referrers.delete(hash);
  }

  /** Adds a path to those that can be imported now. */
  #offer(arrived: Arrived): void {
    const place = this.placeOf(arrived.info);
    let [from, to] = [0, this.#importable.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      const other = this.#importable[middle];
      if (other !== undefined && this.placeOf(other.info) > place) from = middle + 1;
      else to = middle;
    }
    this.#importable.splice(from, 0, arrived);
  }

  #find(info: NarInfo): Arrived | undefined {
    const named = namedFile(info);
    if (named === undefined) return undefined;
    const { fileHash, extension } = named;
    const local = { ...info, url: FileStore.narUrl(fileHash, extension) };
    const found = this.#store.statNarNow(local);
    return found && { info: local, file: { fileHash, extension, ...found } };
  }
}
