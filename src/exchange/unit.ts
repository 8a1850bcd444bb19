import type { FileHash } from '../nix/brands.ts';
import type { Pace } from './pace.ts';

/** What a member has of a file. */
export interface Pieces {
  has(index: number): boolean;
}

/** A member, as far as it decides what is asked of it. */
export interface Source extends Pace {
  readonly isNeighbour: boolean;
  /** Whether it was found silent not long ago: it is asked after all others. */
  readonly isSilent: boolean;
  has(file: FileHash): 'whole' | Pieces | undefined;
  wants(file: FileHash): boolean;
}

/** A file to fetch. */
export interface PickFile {
  readonly file: FileHash;
  readonly sizeBytes: number;
  /** Bytes of each range that is asked for, but the last. */
  readonly unitBytes: number;
  /** Whether each range can be checked by itself: if not, the file comes in order, from members that have it whole. */
  readonly isCheckable: boolean;
  /** The one member that may send it, after a mixture of several was wrong. */
  only?: Source | undefined;
}

/** A range of a file that is asked for as one: a piece, if pieces can be checked. */
export class Unit {
  readonly file: PickFile;
  readonly index: number;
  /** First byte that is missing; what lies before it in the same unit is there. */
  from: number;
  readonly to: number;
  readonly requests: Asked[] = [];
  /** True once it is there. */
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

/** A unit that a member was asked for. */
export interface Asked {
  readonly source: Source;
  readonly unit: Unit;
  readonly from: number;
  readonly lengthBytes: number;
  receivedBytes: number;
}

/** True if a member has a unit, as far as it can be asked for by itself. */
export function has(source: Source, { file, index }: Unit): boolean {
  const held = source.has(file.file);
  return held === 'whole' || (held !== undefined && file.isCheckable && held.has(index));
}

/** True for a file of more than one unit. */
export function isLarge({ sizeBytes, unitBytes }: PickFile): boolean {
  return sizeBytes > unitBytes;
}
