import type { WriteStream } from 'node:tty';
import { lengthOf, writeLine, type Line } from './line.ts';
import { rowsBelowCursor } from './reflow.ts';

/** The room for lines, in characters. */
export interface Room {
  readonly columns: number;
  readonly rows: number;
}

/** The terminal, as far as it is used here. Emits `resize`. */
export type Screen = NodeJS.WritableStream & Pick<WriteStream, 'getWindowSize'>;

export interface LiveLinesOptions {
  readonly screen: Screen;
  /** The environment, which names the terminal. */
  readonly env: NodeJS.ProcessEnv;
}

/** Shortest time between two frames. */
const FRAME_MS = 100;

/** One line is drawn without wrapping, so that its number of rows is known even while the terminal gets narrower. */
const NO_WRAP = '\x1b[?7l';
const WRAP = '\x1b[?7h';
const CLEAR_BELOW = '\r\x1b[J';
const CLEAR_REST = '\x1b[K';

/**
 * The last lines of a terminal, which are redrawn in place. Everything else is printed above them.
 *
 * Between frames the cursor is at the beginning of the first line. A terminal that is resized may wrap the lines, and
 * takes the cursor with it. So everything from the cursor on is ours, whatever its number of rows.
 */
export class LiveLines implements Disposable {
  readonly #screen: Screen;
  readonly #env: NodeJS.ProcessEnv;
  #describe: ((room: Room) => readonly Line[]) | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The lines on the screen, and the room for which they were drawn. */
  #drawn: { readonly frame: string; readonly lengths: readonly number[]; readonly room: Room } | undefined;
  #drawnAtMs = -Infinity;
  #isOver = false;

  constructor({ screen, env }: LiveLinesOptions) {
    this.#screen = screen;
    this.#env = env;
  }

  /** Shows lines from now on, up to ten times a second. Shows nothing while there are none. */
  show(describe: (room: Room) => readonly Line[]): void {
    if (this.#isOver) return;
    if (this.#describe === undefined) {
      this.#screen.on('resize', this.#onResize);
      process.on('SIGTSTP', this.#onSuspend).on('SIGCONT', this.#onContinue).on('exit', this.#erase);
    }
    this.#describe = describe;
    this.#timer ??= setInterval(() => this.#draw(), FRAME_MS);
  }

  /** Calls `print`, which prints above the lines. */
  above(print: () => void): void {
    this.#erase();
    print();
    if (performance.now() - this.#drawnAtMs >= FRAME_MS) this.#draw();
  }

  /** Removes the lines, until the next `show`. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#describe === undefined) return;
    this.#describe = undefined;
    this.#erase();
    this.#screen.off('resize', this.#onResize);
    process.off('SIGTSTP', this.#onSuspend).off('SIGCONT', this.#onContinue).off('exit', this.#erase);
  }

  /** Removes the lines for good. */
  end(): void {
    this.stop();
    this.#isOver = true;
  }

  /** Removes the lines for good, and the `^C` that the terminal shows for the key. */
  interrupt(): void {
    this.end();
    this.#screen.write(CLEAR_BELOW);
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #draw(): void {
    if (this.#describe === undefined) return;
    const { columns, rows } = this.#size();
    if (columns < 2 || rows < 2) return;
    const room = { columns: columns - 1, rows: rows - 1 };
    const described = this.#describe(room).slice(0, room.rows);
    if (described.length === 0) {
      this.#erase();
      return;
    }
    const lines = described.map((line) => writeLine(line, room.columns, this.#screen));
    const frame = lines.join(`${CLEAR_REST}\r\n`);
    const before = this.#drawn;
    const isSame = before?.room.columns === room.columns && before.room.rows === room.rows;
    if (isSame && before.frame === frame) return;
    const up = lines.length > 1 ? `\x1b[${lines.length - 1}A` : '';
    const begin = isSame ? '\r' : this.#clearing();
    this.#screen.write(`${begin}${NO_WRAP}${frame}\x1b[J${WRAP}${up}\r`);
    this.#drawn = { frame, lengths: described.map((line) => Math.min(lengthOf(line), room.columns)), room };
    this.#drawnAtMs = performance.now();
  }

  #size(): Room {
    const [columns, rows] = this.#screen.getWindowSize();
    // A terminal without a window may not know its size.
    return { columns: columns > 0 ? columns : 80, rows: rows > 0 ? rows : 24 };
  }

  /** Returns the sequence that removes the lines. */
  #clearing(): string {
    if (this.#drawn === undefined) return '\r';
    const { columns } = this.#size();
    const { lengths, room } = this.#drawn;
    const off = rowsBelowCursor(lengths, { from: room.columns + 1, to: columns }, this.#env);
    return `${off > 0 ? `\x1b[${off}A` : ''}${CLEAR_BELOW}`;
  }

  readonly #erase = (): void => {
    if (this.#drawn === undefined) return;
    this.#screen.write(this.#clearing());
    this.#drawn = undefined;
  };

  readonly #onResize = (): void => this.#draw();

  /** Ctrl-Z: leaves a clean line to the shell. */
  readonly #onSuspend = (): void => {
    this.#erase();
    process.off('SIGTSTP', this.#onSuspend);
    process.kill(process.pid, 'SIGTSTP'); // without a listener, this stops the process
    process.on('SIGTSTP', this.#onSuspend);
  };

  /** The shell has printed something meanwhile, and the cursor is below it. */
  readonly #onContinue = (): void => {
    this.#drawn = undefined;
    this.#draw();
  };
}
