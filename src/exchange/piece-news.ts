import type { FilePrefix } from './messages/messages.ts';

/** Time for which news gather. A member with a fast line gets a piece every 16 ms, and tells all others of each. */
const GATHER_MS = 25;

/** A piece that may be given now. */
export interface NewPiece {
  readonly prefix: FilePrefix;
  readonly index: number;
}

/** Gathers news of pieces, so that each member gets those of a moment in one packet. */
export class PieceNews implements Disposable {
  readonly #tell: (pieces: readonly NewPiece[]) => void;
  #pieces: NewPiece[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (pieces: readonly NewPiece[]) => void) {
    this.#tell = tell;
  }

  add(prefix: FilePrefix, index: number): void {
    this.#pieces.push({ prefix, index });
    this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #flush(): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#timer = undefined;
    this.#tell(pieces);
  }
}
