import { hash } from 'node:crypto';
import type { NarInfo } from '../../nix/narinfo.ts';
import { Column, KeyTable } from '../key-table.ts';

/** What the store has of a path: nothing, a narinfo, or a file in its place that cannot be read as one. */
export const ABSENT = 0;
export const PRESENT = 1;
export const DAMAGED = 2;

/**
 * Which narinfos and NARs a store holds and what they need, in columns of numbers: a path with ten references takes
 * some 150 bytes, however long its names are.
 */
export class StoreGraph {
  readonly #paths = new KeyTable();
  readonly #nars = new KeyTable();
  readonly #state = new Column(Uint8Array);
  /** Where a path's references begin in `#references`, and how many they are. */
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

  /** Paths that have a narinfo or are referred to, numbered from 0. */
  get pathCount(): number {
    return this.#paths.size;
  }

  get narCount(): number {
    return this.#nars.size;
  }

  /** Takes in a file of `nar/`. */
  addNar(name: string, file: { sizeBytes: number; mtimeMs: number; ctimeMs: number }): void {
    const nar = this.#nars.intern(narKey(name));
    this.#narBytes.set(nar, file.sizeBytes);
    this.#narUsedAtMs.set(nar, Math.max(file.mtimeMs, this.#narUsedAtMs.get(nar)));
    this.#narChangedAtMs.set(nar, file.ctimeMs);
  }

  /** Notes when a NAR was last given to somebody. */
  addServed(name: string, atMs: number): void {
    const nar = this.#nars.intern(narKey(name));
    this.#servedAtMs.set(nar, atMs);
    this.#narUsedAtMs.set(nar, Math.max(atMs, this.#narUsedAtMs.get(nar)));
  }

  /** Takes in a narinfo: `info` is undefined where the file cannot be read as one. */
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

  /** The number of a path, by the hash part of its name. */
  number(storeHash: string): number {
    this.#key.write(storeHash, 0, 32, 'latin1');
    return this.#paths.intern(this.#key);
  }

  /** As {@link number}, or -1 where the path was not heard of. */
  knownNumber(storeHash: string): number {
    this.#key.write(storeHash, 0, 32, 'latin1');
    return this.#paths.numberOf(this.#key);
  }

  storeHash(path: number): string {
    return Buffer.from(this.#paths.keyOf(path)).toString('latin1');
  }

  /** The number of a NAR, by the name of its file; a new one where it is new. */
  narNumber(name: string): number {
    return this.#nars.intern(narKey(name));
  }

  /** As {@link narNumber}, or -1 where the NAR was not heard of. */
  narNumberOf(name: string): number {
    return this.#nars.numberOf(narKey(name));
  }

  /** Narinfos that cannot be read. */
  damagedCount = 0;

  state(path: number): number {
    return this.#state.get(path);
  }

  *references(path: number): Generator<number> {
    const from = this.#from.get(path);
    for (let at = from; at < from + this.#count.get(path); at++) yield this.#references.get(at);
  }

  /** The NAR that a path's narinfo names, or -1. */
  narOf(path: number): number {
    return this.#narOf.get(path);
  }

  /** Bytes of a NAR's file, or -1 where there is none. */
  narBytes(nar: number): number {
    return this.#narBytes.get(nar);
  }

  /** Narinfos that name a NAR. */
  narUsers(nar: number): number {
    return this.#narUsers.get(nar);
  }

  /** When a NAR was last served or, where that is later, written; milliseconds since 1970. */
  narUsedAtMs(nar: number): number {
    return this.#narUsedAtMs.get(nar);
  }

  /** When a NAR was last served; 0 for never. */
  servedAtMs(nar: number): number {
    return this.#servedAtMs.get(nar);
  }

  /** When a NAR's file came to its place. */
  narChangedAtMs(nar: number): number {
    return this.#narChangedAtMs.get(nar);
  }
}

/** The file in `nar/` that a narinfo's URL names; anything else is no file that is ever collected. */
export function narNameOf(url: string): string {
  return url.startsWith('nar/') ? url.slice('nar/'.length) : `/${url}`;
}

function narKey(name: string): Uint8Array {
  return hash('sha256', name, 'buffer');
}
