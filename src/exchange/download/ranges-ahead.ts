import { giveBack } from '../../bytes/lent-buffers.ts';
import type { DownloadMemory } from './download-memory.ts';
import type { Arrived } from './range-requests.ts';

/** A whole range that can only be checked with its whole file. */
interface Ahead extends Arrived {
  readonly sha1: string;
}

/** Ranges of a file without piece hashes. They wait in memory for earlier ones, since the file is written in order. */
export class RangesAhead {
  readonly #memory: DownloadMemory;
  /** By first byte. */
  readonly #ranges = new Map<number, Ahead>();

  constructor(memory: DownloadMemory) {
    this.#memory = memory;
  }

  get size(): number {
    return this.#ranges.size;
  }

  /** Returns true if a peer has sent one of them. */
  isFrom(peer: object): boolean {
    for (const { source } of this.#ranges.values()) if (source.member.peer === peer) return true;
    return false;
  }

  add(range: Ahead): void {
    this.#ranges.set(range.asked.from, range);
    this.#memory.takeAhead(range.asked.lengthBytes);
  }

  /** Removes and returns a range with a byte. Give its buffer back. */
  take(at: number): Ahead | undefined {
    const next = [...this.#ranges.values()].find(({ asked }) => asked.from <= at && at < asked.unit.to);
    if (next !== undefined) this.#forget(next);
    return next;
  }

  /** Drops all ranges. */
  clear(): void {
    for (const range of this.#ranges.values()) {
      this.#forget(range);
      giveBack(range.bytes);
    }
  }

  #forget({ asked: { from, lengthBytes } }: Ahead): void {
    if (this.#ranges.delete(from)) this.#memory.freeAhead(lengthBytes);
  }
}
