import type { FileHash } from '../../nix/brands.ts';
import type { Pace } from './pace.ts';

/** The pieces of a file that a member has. */
export interface Pieces {
  has(index: number): boolean;
}

/** The facts about a member that decide which ranges are requested from it. */
export interface Source extends Pace {
  /** Bytes a second since it was first asked, however short that was. Undefined before the first byte. */
  readonly rateSoFar: number | undefined;
  readonly isNeighbour: boolean;
  /** True if it was silent recently. It is then asked after all others. */
  readonly isSilent: boolean;
  /**
   * True if it is asked for parts of a file that can only be checked as a whole while it fetches the file itself.
   * Default: false.
   */
  readonly givesUnfinished?: boolean;
  /** True if it has given right bytes. Default: false. */
  readonly isProven?: boolean;
  has(file: FileHash): 'whole' | Pieces | undefined;
  wants(file: FileHash): boolean;
}

/** A file to fetch. */
export interface PickFile {
  readonly file: FileHash;
  readonly sizeBytes: number;
  /** Bytes of each requested range, except the last. */
  readonly unitBytes: number;
  /**
   * True if each range can be checked by itself. Otherwise the file comes in order, from members that have all of it
   * or are fetching it.
   */
  readonly isCheckable: boolean;
  /** The only member that may send it, after bytes of several members together were wrong. */
  readonly only?: Source | undefined;
  /**
   * True if all of it was here and wrong, and some bytes were kept. Then only members that have given right bytes
   * before are asked. Default: false.
   */
  readonly isDoubted?: boolean;
}

/** A range of a file that is requested as a whole: a piece, if pieces can be checked. */
export class Unit {
  readonly file: PickFile;
  readonly index: number;
  /** First missing byte. The bytes before it in the same unit are already here. */
  from: number;
  readonly to: number;
  readonly requests: Asked[] = [];
  /** True once all of it is here. */
  isDone = false;

  constructor(file: PickFile, index: number, from: number) {
    this.file = file;
    this.index = index;
    this.from = from;
    this.to = Math.min(file.sizeBytes, (index + 1) * file.unitBytes);
  }

  get length(): number {
    return this.to - this.from;
  }
}

/** A unit that was requested from a member. */
export interface Asked {
  readonly source: Source;
  readonly unit: Unit;
  readonly from: number;
  readonly lengthBytes: number;
  receivedBytes: number;
}

/** Returns true if a member has a unit that can be requested by itself. */
export function has(source: Source, { file, index }: Unit): boolean {
  const held = source.has(file.file);
  return held === 'whole' ? mayGiveWhole(source, file) : held?.has(index) === true && mayGiveParts(source, file);
}

/** Returns true if a file may be requested from a member that has all of it. */
export function mayGiveWhole(
  { isProven = false }: Source,
  { isDoubted = false }: Pick<PickFile, 'isDoubted'>,
): boolean {
  return isProven || !isDoubted;
}

/** Returns true if parts of a file may be requested from a member that does not have all of it. */
export function mayGiveParts(source: Source, file: PickFile): boolean {
  return (file.isCheckable || source.givesUnfinished === true) && mayGiveWhole(source, file);
}

/** Returns true for a file of more than one unit. */
export function isLarge({ sizeBytes, unitBytes }: PickFile): boolean {
  return sizeBytes > unitBytes;
}
