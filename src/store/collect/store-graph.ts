import { hash } from 'node:crypto';
import type { NarInfo } from '../../nix/narinfo.ts';
import { Column, KeyTable } from '../key-table.ts';

/** The state of a path in the store: no narinfo, a narinfo, or a file in its place that cannot be read. */
export const ABSENT = 0;
export const PRESENT = 1;
export const DAMAGED = 2;

/**
 * The narinfos and NARs of a store, and their references, in columns of numbers. A path with ten references takes about
 * 150 bytes, whatever the length of its name.
 */
export class StoreGraph {
  readonly #paths = new KeyTable();
  readonly #nars = new KeyTable();
  readonly #state = new Column(Uint8Array);
  /** Start and count of a path's references in `#references`. */
  readonly #from = new Column(Int32Array);
  readonly #count = new Column(Int32Array);
  readonly #references = new Column(Int32Array);
  #referenceCount = 0;
  readonly #narOf = new Column(Int32Array, -1);
  readonly #narBytes = new Column(Float64Array, -1);
  readonly #narUsers = new Column(Int32Array);
  readonly #narUsedAtMs = new Column(Float64Array);
  readonly #narChangedAtMs = new Column(Float64Array);
  readonly #servedAtMs = new Column(Float64Array);
  readonly #key = Buffer.alloc(32);

  /** Number of paths that have a narinfo or are referred to. Paths are numbered from 0. */
  get pathCount(): number {
    return this.#paths.size;
  }

  get narCount(): number {
    return this.#nars.size;
  }

  /** Adds a file of `nar/`. */
  addNar(name: string, file: { sizeBytes: number; mtimeMs: number; ctimeMs: number }): void {
    const nar = this.#nars.intern(narKey(name));
    this.#narBytes.set(nar, file.sizeBytes);
    this.#narUsedAtMs.set(nar, Math.max(file.mtimeMs, this.#narUsedAtMs.get(nar)));
    this.#narChangedAtMs.set(nar, file.ctimeMs);
  }

  /** Records when a NAR was last served. */
  addServed(name: string, atMs: number): void {
    const nar = this.#nars.intern(narKey(name));
    this.#servedAtMs.set(nar, atMs);
    this.#narUsedAtMs.set(nar, Math.max(atMs, this.#narUsedAtMs.get(nar)));
  }

  /** Adds a narinfo. `info` is undefined if the file cannot be read as one. */
  addNarInfo(storeHash: string, info: NarInfo | undefined): void {
    const path = this.number(storeHash);
    this.#state.set(path, info === undefined ? DAMAGED : PRESENT);
    if (info === undefined) {
      this.damagedCount++;
      return;
    }
    this.#from.set(path, this.#referenceCount);
    for (const name of info.references) {
      const other = this.number(name.slice(0, 32));
      if (other !== path) this.#references.set(this.#referenceCount++, other);
    }
    this.#count.set(path, this.#referenceCount - this.#from.get(path));
    const nar = this.#nars.intern(narKey(narNameOf(info.url)));
    this.#narOf.set(path, nar);
    this.#narUsers.add(nar, 1);
  }

  /** Returns the number of a path, by its hash part. Assigns a new number to a new path. */
  number(storeHash: string): number {
    this.#key.write(storeHash, 0, 32, 'latin1');
    return this.#paths.intern(this.#key);
  }

  /** Returns the number of a path, or -1 if it has none. */
  knownNumber(storeHash: string): number {
    this.#key.write(storeHash, 0, 32, 'latin1');
    return this.#paths.numberOf(this.#key);
  }

  storeHash(path: number): string {
    return Buffer.from(this.#paths.keyOf(path)).toString('latin1');
  }

  /** Returns the number of a NAR, by its file name. Assigns a new number to a new NAR. */
  narNumber(name: string): number {
    return this.#nars.intern(narKey(name));
  }

  /** Returns the number of a NAR, or -1 if it has none. */
  narNumberOf(name: string): number {
    return this.#nars.numberOf(narKey(name));
  }

  /** Number of narinfos that cannot be read. */
  damagedCount = 0;

  state(path: number): number {
    return this.#state.get(path);
  }

  *references(path: number): Generator<number> {
    const from = this.#from.get(path);
    for (let at = from; at < from + this.#count.get(path); at++) yield this.#references.get(at);
  }

  /** Returns the NAR that a path's narinfo names, or -1. */
  narOf(path: number): number {
    return this.#narOf.get(path);
  }

  /** Returns the bytes of a NAR's file, or -1 if there is none. */
  narBytes(nar: number): number {
    return this.#narBytes.get(nar);
  }

  /** Returns the number of narinfos that name a NAR. */
  narUsers(nar: number): number {
    return this.#narUsers.get(nar);
  }

  /** Returns when a NAR was last served or written, whichever is later, in milliseconds since 1970. */
  narUsedAtMs(nar: number): number {
    return this.#narUsedAtMs.get(nar);
  }

  /** Returns when a NAR was last served; 0 if never. */
  servedAtMs(nar: number): number {
    return this.#servedAtMs.get(nar);
  }

  /** Returns when a NAR's file was moved to its place. */
  narChangedAtMs(nar: number): number {
    return this.#narChangedAtMs.get(nar);
  }
}

/**
 * Returns the file in `nar/` that a narinfo's URL names. For any other URL, returns a name that no collected file has.
 */
export function narNameOf(url: string): string {
  return url.startsWith('nar/') ? url.slice('nar/'.length) : `/${url}`;
}

function narKey(name: string): Uint8Array {
  return hash('sha256', name, 'buffer');
}
