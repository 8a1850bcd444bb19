import { EventEmitter } from 'node:events';
import type { FileHash } from '../../nix/brands.ts';

/**
 * The NARs that somebody waits for. They come before all others, in the order in which they were asked for, also those
 * whose fetch has yet to be planned.
 */
export class HurriedNars {
  readonly #turns = new Map<FileHash, number>();
  readonly #news = new EventEmitter<{ hurry: [FileHash] }>();
  #nextTurn = 0;

  constructor() {
    this.#news.setMaxListeners(0);
  }

  add(file: FileHash): void {
    if (this.#turns.has(file)) return;
    this.#turns.set(file, this.#nextTurn++);
    this.#news.emit('hurry', file);
  }

  delete(file: FileHash): void {
    this.#turns.delete(file);
  }

  /** Returns the turn of a NAR, as a number that grows with each question. Infinity if Nix does not wait for it. */
  turnOf(files: Iterable<FileHash>): number {
    let turn = Infinity;
    for (const file of files) turn = Math.min(turn, this.#turns.get(file) ?? Infinity);
    return turn;
  }

  /** Calls `onHurry` with each file that is added from now on, until the result is disposed of. */
  watch(onHurry: (file: FileHash) => void): Disposable {
    this.#news.on('hurry', onHurry);
    return { [Symbol.dispose]: () => void this.#news.off('hurry', onHurry) };
  }
}
