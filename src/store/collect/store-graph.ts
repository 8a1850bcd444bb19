import type { NarInfo } from '../../nix/narinfo.ts';
import { Numbering } from './numbering.ts';

/** The state of a path in the store: no narinfo, a narinfo, or a file in its place that cannot be read. */
export const ABSENT = 0;
export const PRESENT = 1;
export const DAMAGED = 2;

interface Path {
  state: number;
  references: readonly number[];
  /** -1 if it is not known. */
  nar: number;
}

interface Nar {
  /** -1 if there is no file. */
  bytes: number;
  users: number;
  usedAtMs: number;
  changedAtMs: number;
  servedAtMs: number;
}

/** The narinfos and NARs of a store, and their references. Paths and NARs have numbers. */
export class StoreGraph {
  readonly #paths = new Numbering();
  readonly #nars = new Numbering();
  readonly #pathFacts: Path[] = [];
  readonly #narFacts: Nar[] = [];

  /** Number of paths that have a narinfo or are referred to. Paths are numbered from 0. */
  get pathCount(): number {
    return this.#paths.size;
  }

  get narCount(): number {
    return this.#nars.size;
  }

  /** Adds a file of `nar/`. */
  addNar(name: string, file: { sizeBytes: number; mtimeMs: number; ctimeMs: number }): void {
    const nar = this.#nar(this.narNumber(name));
    nar.bytes = file.sizeBytes;
    nar.usedAtMs = Math.max(file.mtimeMs, nar.usedAtMs);
    nar.changedAtMs = file.ctimeMs;
  }

  /** Records when a NAR was last served. */
  addServed(name: string, atMs: number): void {
    const nar = this.#nar(this.narNumber(name));
    nar.servedAtMs = atMs;
    nar.usedAtMs = Math.max(atMs, nar.usedAtMs);
  }

  /** Adds a narinfo. `info` is undefined if the file cannot be read as one. */
  addNarInfo(storeHash: string, info: NarInfo | undefined): void {
    const number = this.number(storeHash);
    const path = this.#path(number);
    path.state = info === undefined ? DAMAGED : PRESENT;
    if (info === undefined) {
      this.damagedCount++;
      return;
    }
    path.references = info.references.map((name) => this.number(name.slice(0, 32))).filter((other) => other !== number);
    path.nar = this.narNumber(narNameOf(info.url));
    this.#nar(path.nar).users++;
  }

  /** Returns the number of a path, by its hash part. Assigns a new number to a new path. */
  number(storeHash: string): number {
    return this.#paths.intern(storeHash);
  }

  /** Returns the number of a path, or -1 if it has none. */
  knownNumber(storeHash: string): number {
    return this.#paths.numberOf(storeHash);
  }

  storeHash(path: number): string {
    return this.#paths.nameOf(path);
  }

  /** Returns the number of a NAR, by its file name. Assigns a new number to a new NAR. */
  narNumber(name: string): number {
    return this.#nars.intern(name);
  }

  /** Returns the number of a NAR, or -1 if it has none. */
  narNumberOf(name: string): number {
    return this.#nars.numberOf(name);
  }

  narName(nar: number): string {
    return this.#nars.nameOf(nar);
  }

  /** Number of narinfos that cannot be read. */
  damagedCount = 0;

  state(path: number): number {
    return this.#pathFacts[path]?.state ?? ABSENT;
  }

  references(path: number): readonly number[] {
    return this.#pathFacts[path]?.references ?? [];
  }

  /** Returns the NAR that a path's narinfo names, or -1. */
  narOf(path: number): number {
    return this.#pathFacts[path]?.nar ?? -1;
  }

  /** Returns the bytes of a NAR's file, or -1 if there is none. */
  narBytes(nar: number): number {
    return this.#narFacts[nar]?.bytes ?? -1;
  }

  /** Returns the number of narinfos that name a NAR. */
  narUsers(nar: number): number {
    return this.#narFacts[nar]?.users ?? 0;
  }

  /** Returns when a NAR was last served or written, whichever is later, in milliseconds since 1970. */
  narUsedAtMs(nar: number): number {
    return this.#narFacts[nar]?.usedAtMs ?? 0;
  }

  /** Returns when a NAR was last served; 0 if never. */
  servedAtMs(nar: number): number {
    return this.#narFacts[nar]?.servedAtMs ?? 0;
  }

  /** Returns when a NAR's file was moved to its place. */
  narChangedAtMs(nar: number): number {
    return this.#narFacts[nar]?.changedAtMs ?? 0;
  }

  #path(number: number): Path {
    return (this.#pathFacts[number] ??= { state: ABSENT, references: [], nar: -1 });
  }

  #nar(number: number): Nar {
    return (this.#narFacts[number] ??= { bytes: -1, users: 0, usedAtMs: 0, changedAtMs: 0, servedAtMs: 0 });
  }
}

/**
 * Returns the file in `nar/` that a narinfo's URL names. For any other URL, returns a name that no collected file has.
 */
export function narNameOf(url: string): string {
  return url.startsWith('nar/') ? url.slice('nar/'.length) : `/${url}`;
}
