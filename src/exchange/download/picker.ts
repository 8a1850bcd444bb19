import type { FileHash } from '../../nix/brands.ts';
import { BegunFiles } from './begun-files.ts';
import { HurriedFiles } from './hurried-files.ts';
import { windowOf } from './pace.ts';
import { isLeft, LOOKED_AT, lookForUnits, rarestOf, samplesOf, type Seen, type Sources } from './rarest.ts';
import { helpedOut, takenOver, type OpenRequests } from './take-over.ts';
import { has, isLarge, mayGiveParts, mayGiveWhole, Unit, type Asked, type PickFile, type Source } from './unit.ts';

/** Units that are found for a member at once. They are requested one after another. */
const FOUND = 32;
/** Ranges that are offered to a member that chooses itself. */
const OFFERED = 64;
/** Limits on open requests to one member, and on those in which it chooses. Many small files fit into a window. */
const MAX_REQUESTS = 128;
const MAX_OFFERS = 16;
/** Limit on ranges of a file without piece hashes that come before earlier ones. They wait in memory. */
const MAX_AHEAD = 32;

/** Options of a choice. */
export interface PickOptions {
  /**
   * Returns true if a range of a file that comes in order may be requested although it may have to wait in memory.
   * Default: always true.
   */
  readonly mayWait?: (unit: Unit) => boolean;
}

/**
 * The next request to a member: a unit, or any of several units, of which it chooses the one that it has sent least.
 */
export type Choice =
  | { readonly kind: 'get'; readonly unit: Unit }
  | { readonly kind: 'any'; readonly units: readonly Unit[]; readonly bytes: number };

interface FileState {
  readonly file: PickFile;
  readonly units: Set<Unit>;
}

/**
 * Chooses which ranges to request from which member, over all wanted files as if they were one torrent: the rarest
 * first, in a random order. Prefers neighbours. Requests from the seeder of a crowd only ranges that no other member
 * has. At the end, requests slow ranges from a second member. Has no clock and does no I/O.
 */
export class Picker {
  readonly #files = new Map<FileHash, FileState>();
  /** Units that are not requested, in the order in which files were added. */
  readonly #free = new Set<Unit>();
  readonly #asked = new Set<Unit>();
  readonly #bySource = new Map<Source, Set<Asked>>();
  /** Bytes that members are to choose, and the number of these offers. */
  readonly #offered = new Map<Source, { bytes: number; count: number }>();
  readonly #seeds = new Set<Source>();
  readonly #random: () => number;
  #isCrowd = false;
  readonly #begun = new BegunFiles();
  readonly #hurried = new HurriedFiles();
  /** Members that had none of the free units when all were looked through. Each is looked through again in its turn. */
  readonly #lacking = new Set<Source>();
  /** False after a look through all units found nothing, until the next look: it takes long. */
  #mayLookThrough = true;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Adds a file of which these ranges are missing. */
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

  /** Removes a file. @returns its requests, which are no longer needed */
  remove(file: FileHash): Asked[] {
    const state = this.#files.get(file);
    if (state === undefined) return [];
    this.#files.delete(file);
    this.#begun.delete(file);
    this.#hurried.delete(file);
    const asked: Asked[] = [];
    for (const unit of state.units) {
      asked.push(...unit.requests);
      for (const one of unit.requests.splice(0)) this.#bySource.get(one.source)?.delete(one);
      this.#free.delete(unit);
      this.#asked.delete(unit);
    }
    return asked;
  }

  /** Requests a file before all others from now on, since somebody waits for it. */
  hurry(file: FileHash): void {
    this.#hurried.add(file, this.#files.get(file)?.units);
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
  }

  /** Number of incomplete files. */
  get size(): number {
    return this.#files.size;
  }

  /** Requested bytes that a member has not sent. */
  inFlightBytes(source: Source): number {
    let sum = this.#offered.get(source)?.bytes ?? 0;
    for (const asked of this.#bySource.get(source) ?? []) sum += asked.lengthBytes - asked.receivedBytes;
    return sum;
  }

  /**
   * Determines again which members have everything, and whether others want the same files. Call it from time to time.
   */
  look(): void {
    const samples = samplesOf(this.#free.size > 0 ? this.#free : this.#asked);
    this.#seeds.clear();
    this.#isCrowd = false;
    this.#mayLookThrough = true;
    if (this.#lacking.size >= this.#bySource.size) this.#lacking.clear();
    this.#begun.look((file) => this.isAtHand(file));
    if (samples.length === 0) return;
    for (const source of this.#bySource.keys()) {
      if (samples.every((unit) => source.has(unit.file.file) === 'whole')) this.#seeds.add(source);
      else if (samples.some((unit) => source.wants(unit.file.file))) this.#isCrowd = true;
    }
  }

  /** Returns the next request to a member. Undefined if it has nothing that is needed, or has enough requests. */
  pick(source: Source, options: PickOptions = {}): Choice | undefined {
    const [choice] = this.choices(source, options);
    return choice;
  }

  /**
   * Yields requests to a member until it has nothing that is needed, or has enough requests. Looks through the ranges
   * once for many requests. Begin or offer each before the next.
   */
  *choices(source: Source, { mayWait = () => true }: PickOptions = {}): Generator<Choice, void> {
    let seen: Seen | undefined;
    let units: Unit[] = [];
    for (;;) {
      const inFlight = this.inFlightBytes(source);
      const isSpared = this.#isSpared(source);
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

  /** Records that a unit was requested from a member, or that the member has chosen it. */
  begin(source: Source, unit: Unit): Asked {
    const asked = { source, unit, from: unit.from, lengthBytes: unit.length, receivedBytes: 0 };
    unit.requests.push(asked);
    this.#bySource.get(source)?.add(asked);
    this.#free.delete(unit);
    this.#asked.add(unit);
    if (this.#files.has(unit.file.file) && isLarge(unit.file)) this.#begun.add(unit.file.file);
    return asked;
  }

  /** Counts bytes that a member is to choose. Call {@link unoffer} with the same number when it has chosen. */
  offer(source: Source, bytes: number): void {
    const { bytes: before, count } = this.#offered.get(source) ?? { bytes: 0, count: 0 };
    this.#offered.set(source, { bytes: before + bytes, count: count + 1 });
  }

  /** Takes an {@link offer} back: the member has chosen or refused. */
  unoffer(source: Source, bytes: number): void {
    const offered = this.#offered.get(source);
    if (offered === undefined) return; // it was removed
    offered.bytes -= bytes;
    offered.count--;
  }

  /**
   * Records the end of a request.
   *
   * @param isDone true if the unit is now here and right
   * @returns the other requests for it, which are no longer needed
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

  /** Returns true while a unit is missing. */
  isMissing(unit: Unit): boolean {
    return this.#files.get(unit.file.file)?.units.has(unit) === true;
  }

  /** Returns true if a file is being fetched and all its units are here. */
  isComplete(file: FileHash): boolean {
    return this.#files.get(file)?.units.size === 0;
  }

  /** Returns true if a member that sends has a missing part of a file. */
  isAtHand(file: FileHash): boolean {
    const state = this.#files.get(file);
    if (state === undefined) return false;
    for (const source of this.#bySource.keys()) {
      if (isLeft(source)) continue;
      const held = source.has(file);
      if (held === 'whole' && mayGiveWhole(source, state.file)) return true;
      if (held === undefined || held === 'whole' || !mayGiveParts(source, state.file)) continue;
      for (const { index } of state.units) if (held.has(index)) return true;
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
    const first = this.#hurried.lookFor(source, this.#free, this.#sources, { count, mayAsk });
    if (first !== undefined) return first;
    const isThorough = this.#mayLookThrough && !this.#lacking.has(source);
    const seen = lookForUnits(source, this.#free, this.#sources, { count, mayAsk, isThorough });
    const isInVain = seen.best.length === 0 && seen.better.length === 0;
    if (isThorough && isInVain && this.#free.size > LOOKED_AT) {
      this.#mayLookThrough = false;
      this.#lacking.add(source);
    }
    return seen;
  }

  #mayAsk(source: Source, unit: Unit, mayWait: (unit: Unit) => boolean): boolean {
    const { file } = unit;
    if (file.only !== undefined && file.only !== source) return false;
    if (!has(source, unit)) return false;
    const state = this.#files.get(file.file);
    if (state === undefined) return false;
    if (isLarge(file) && !this.#begun.mayAdd(file.file)) return false;
    if (file.isCheckable) return true;
    const [first] = state.units;
    return (first === undefined || unit.index < first.index + MAX_AHEAD) && mayWait(unit);
  }

  /** Returns true for the seeder of a crowd. */
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
