import type { FileHash } from '../nix/brands.ts';
import { windowOf } from './pace.ts';
import { isLeft, LOOKED_AT, lookForUnits, rarestOf, samplesOf, type Seen, type Sources } from './rarest.ts';
import { helpedOut, takenOver, type OpenRequests } from './take-over.ts';
import { has, isLarge, Unit, type Asked, type PickFile, type Source } from './unit.ts';

/** Ranges that are found for a member at once, to be asked for one after the other. */
const FOUND = 32;
/** Ranges that a member which chooses itself is offered. */
const OFFERED = 64;
/** Open requests to one member, and those of them in which it chooses: small files are many in a window. */
const MAX_REQUESTS = 128;
const MAX_OFFERS = 16;
/** Large files that are begun at a time: each has an open file. */
const MAX_BEGUN = 64;
/** The same with those that nobody has any more. */
const MAX_BEGUN_IN_ALL = 512;
/** Ranges of a file without piece hashes that come ahead of those before them: they wait in memory. */
const MAX_AHEAD = 8;

/** What is asked for now. */
export interface PickOptions {
  /** Whether it may be that a crowd begins, which shows a moment later. Default: no. */
  readonly isOpening?: boolean;
  /** Whether a range of a file that comes in order may be asked for, though it may have to wait in memory. Default: always. */
  readonly mayWait?: (unit: Unit) => boolean;
}

/** What to ask a member next: a unit, or whichever of some it has given away least. */
export type Choice =
  | { readonly kind: 'get'; readonly unit: Unit }
  | { readonly kind: 'any'; readonly units: readonly Unit[]; readonly bytes: number };

interface FileState {
  readonly file: PickFile;
  readonly units: Set<Unit>;
}

/**
 * Chooses what is asked of whom, of the ranges of all wanted files as if they were one torrent: rarest first, in an order of
 * our own, neighbours before others, the seeder of a crowd for what nobody else has; at the end what is slow to come is asked
 * of a second member. Keeps no clock and does no I/O.
 */
export class Picker {
  readonly #files = new Map<FileHash, FileState>();
  /** Units that nobody was asked for, in the order in which files were added. */
  readonly #free = new Set<Unit>();
  readonly #asked = new Set<Unit>();
  readonly #bySource = new Map<Source, Set<Asked>>();
  /** Bytes that members are to choose which they send. */
  readonly #offered = new Map<Source, { bytes: number; count: number }>();
  readonly #seeds = new Set<Source>();
  readonly #random: () => number;
  #isCrowd = false;
  /** Large files that are begun, and those of them that no member had at the last look. */
  readonly #begun = new Set<FileHash>();
  readonly #stranded = new Set<FileHash>();
  /** Members that had none of the free units when all were looked through. Each is looked at again in its turn. */
  readonly #lacking = new Set<Source>();
  /** False once all were looked through in vain since the last look: that takes long. */
  #mayLookThrough = true;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Takes in a file, of which these ranges are missing. */
  add(file: PickFile, missing: readonly { readonly from: number; readonly to: number }[]): void {
    const state: FileState = { file, units: new Set() };
    this.#files.set(file.file, state);
    for (const range of missing) {
      for (let from = range.from; from < range.to;) {
        const unit = new Unit(file, Math.floor(from / file.unitBytes), from);
        state.units.add(unit);
        this.#free.add(unit);
        from = unit.to;
      }
    }
  }

  /** Lets go of a file. @returns what was asked for and is not needed any longer */
  remove(file: FileHash): Asked[] {
    const state = this.#files.get(file);
    if (state === undefined) return [];
    this.#files.delete(file);
    this.#begun.delete(file);
    this.#stranded.delete(file);
    const asked: Asked[] = [];
    for (const unit of state.units) {
      asked.push(...unit.requests);
      for (const one of unit.requests.splice(0)) this.#bySource.get(one.source)?.delete(one);
      this.#free.delete(unit);
      this.#asked.delete(unit);
    }
    return asked;
  }

  addSource(source: Source): void {
    this.#bySource.set(source, new Set());
  }

  removeSource(source: Source): void {
    for (const asked of this.#bySource.get(source) ?? []) this.end(asked, false);
    this.#bySource.delete(source);
    this.#offered.delete(source);
    this.#seeds.delete(source);
    this.#lacking.delete(source);
    for (const { file } of this.#files.values()) if (file.only === source) file.only = undefined;
  }

  /** Files that are not complete. */
  get size(): number {
    return this.#files.size;
  }

  /** Bytes that a member was asked for and has not sent. */
  inFlightBytes(source: Source): number {
    let sum = this.#offered.get(source)?.bytes ?? 0;
    for (const asked of this.#bySource.get(source) ?? []) sum += asked.lengthBytes - asked.receivedBytes;
    return sum;
  }

  /** Looks again who has everything, and whether others look for the same. To be called now and then. */
  look(): void {
    const samples = samplesOf(this.#free.size > 0 ? this.#free : this.#asked);
    this.#seeds.clear();
    this.#isCrowd = false;
    this.#mayLookThrough = true;
    if (this.#lacking.size >= this.#bySource.size) this.#lacking.clear();
    this.#stranded.clear();
    for (const file of this.#begun) if (!this.isAtHand(file)) this.#stranded.add(file);
    if (samples.length === 0) return;
    for (const source of this.#bySource.keys()) {
      if (samples.every((unit) => source.has(unit.file.file) === 'whole')) this.#seeds.add(source);
      else if (samples.some((unit) => source.wants(unit.file.file))) this.#isCrowd = true;
    }
  }

  /** What to ask a member next, or undefined if it has nothing that is needed, or enough to do. */
  pick(source: Source, options: PickOptions = {}): Choice | undefined {
    const [choice] = this.choices(source, options);
    return choice;
  }

  /**
   * What to ask a member next, one after the other, until it has nothing that is needed, or enough to do. Ranges are looked
   * through once for many choices: each is to be begun, or offered, before the next.
   */
  *choices(source: Source, { isOpening = false, mayWait = always }: PickOptions = {}): Generator<Choice, void> {
    let seen: Seen | undefined;
    let units: Unit[] = [];
    for (;;) {
      const inFlight = this.inFlightBytes(source);
      const isSpared = this.#seeds.has(source) && (this.#isCrowd || isOpening);
      if (isLeft(source) ? inFlight > 0 : inFlight > 0 && inFlight >= windowOf(source, isSpared)) return;
      if ((this.#bySource.get(source)?.size ?? 0) >= MAX_REQUESTS) return;
      units = units.filter((unit) => this.#free.has(unit) && this.#mayAsk(source, unit, mayWait));
      if (units.length === 0 || isSpared) {
        if (units.length === 0) seen = undefined;
        const count = isSpared ? OFFERED : FOUND;
        const mayAsk = (unit: Unit): boolean => this.#mayAsk(source, unit, mayWait);
        seen ??= this.#lookFor(source, count, mayAsk);
        units = rarestOf(seen, count, this.#isCrowd || isSpared ? this.#random : undefined);
        if (units.length === 0) units = helpedOut(source, seen.better, this.#open);
      }
      const some = isSpared ? units.filter(({ file }) => file.isCheckable && file.only === undefined) : [];
      if (some.length > 0) {
        if ((this.#offered.get(source)?.count ?? 0) >= Math.min(MAX_OFFERS, some.length)) return;
        yield { kind: 'any', units: some, bytes: some.reduce((sum, { length }) => sum + length, 0) / some.length };
        continue;
      }
      const unit = units[0] ?? takenOver(source, this.#asked, this.#isSpared(source), this.#open);
      if (unit === undefined) return;
      yield { kind: 'get', unit };
      if (isSpared) seen = undefined;
    }
  }

  /** Records that a member was asked for a unit, or has chosen it. */
  begin(source: Source, unit: Unit): Asked {
    const asked = { source, unit, from: unit.from, lengthBytes: unit.length, receivedBytes: 0 };
    unit.requests.push(asked);
    this.#bySource.get(source)?.add(asked);
    this.#free.delete(unit);
    this.#asked.add(unit);
    if (this.#files.has(unit.file.file) && isLarge(unit.file)) this.#begun.add(unit.file.file);
    return asked;
  }

  /** Counts bytes that a member is to choose. To be taken back with the same number when it has. */
  offer(source: Source, bytes: number): void {
    const { bytes: before, count } = this.#offered.get(source) ?? { bytes: 0, count: 0 };
    this.#offered.set(source, { bytes: before + bytes, count: count + 1 });
  }

  /** Takes an {@link offer} back: the member has chosen, or refused. */
  unoffer(source: Source, bytes: number): void {
    const offered = this.#offered.get(source);
    if (offered === undefined) return; // it is gone
    offered.bytes -= bytes;
    offered.count--;
  }

  /**
   * Records the end of a request.
   *
   * @param isDone true if the unit is there now, and right
   * @returns the other requests for it, which are not needed any longer
   */
  end(asked: Asked, isDone: boolean): Asked[] {
    const { unit } = asked;
    const others = unit.requests.filter((one) => one !== asked);
    this.#forget(asked);
    if (!isDone) {
      if (others.length === 0 && this.#asked.delete(unit)) this.#free.add(unit);
      return [];
    }
    unit.isDone = true;
    for (const one of others) this.#forget(one);
    this.#asked.delete(unit);
    this.#free.delete(unit);
    const state = this.#files.get(unit.file.file);
    state?.units.delete(unit);
    return others;
  }

  /** True while a unit is not there. */
  isMissing(unit: Unit): boolean {
    return this.#files.get(unit.file.file)?.units.has(unit) === true;
  }

  /** True if a file is among those to fetch and all its units are there. */
  isComplete(file: FileHash): boolean {
    return this.#files.get(file)?.units.size === 0;
  }

  /** True if a member that sends has a part of a file that is missing. */
  isAtHand(file: FileHash): boolean {
    const state = this.#files.get(file);
    if (state === undefined) return false;
    for (const source of this.#bySource.keys()) {
      if (isLeft(source)) continue;
      const held = source.has(file);
      if (held === 'whole') return true;
      if (held !== undefined && state.file.isCheckable && [...state.units].some(({ index }) => held.has(index)))
        return true;
    }
    return false;
  }

  get #sources(): Sources {
    return { all: this.#bySource.keys(), seeds: this.#seeds, isCrowd: this.#isCrowd };
  }

  get #open(): OpenRequests {
    return { bySource: this.#bySource, inFlightBytes: (source) => this.inFlightBytes(source) };
  }

  #lookFor(source: Source, count: number, mayAsk: (unit: Unit) => boolean): Seen {
    const isThorough = this.#mayLookThrough && !this.#lacking.has(source);
    const seen = lookForUnits(source, this.#free, this.#sources, { count, mayAsk, isThorough });
    const isInVain = seen.best.length === 0 && seen.better.length === 0;
    if (isThorough && isInVain && this.#free.size > LOOKED_AT) {
      this.#mayLookThrough = false;
      this.#lacking.add(source);
    }
    return seen;
  }

  /** True if one more large file may be begun. */
  get #mayBegin(): boolean {
    return this.#begun.size - this.#stranded.size < MAX_BEGUN && this.#begun.size < MAX_BEGUN_IN_ALL;
  }

  #mayAsk(source: Source, unit: Unit, mayWait: (unit: Unit) => boolean): boolean {
    const { file } = unit;
    if (file.only !== undefined && file.only !== source) return false;
    if (!has(source, unit)) return false;
    const state = this.#files.get(file.file);
    if (state === undefined) return false;
    if (isLarge(file) && !this.#begun.has(file.file) && !this.#mayBegin) return false;
    if (file.isCheckable) return true;
    const [first] = state.units;
    return (first === undefined || unit.index < first.index + MAX_AHEAD) && mayWait(unit);
  }

  /** True for the seeder of a crowd. */
  #isSpared(source: Source): boolean {
    return this.#isCrowd && this.#seeds.has(source);
  }

  #forget(asked: Asked): void {
    const { requests } = asked.unit;
    const at = requests.indexOf(asked);
    if (at !== -1) requests.splice(at, 1);
    this.#bySource.get(asked.source)?.delete(asked);
  }
}

function always(): boolean {
  return true;
}
