import { printTo, type Output } from './output.ts';

/** Progress at one moment: in words, and as facts for `--json`. */
export interface ProgressFacts {
  readonly text: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

const REDRAW_MS = 200;
/** Time between two lines where nothing can be redrawn, in milliseconds. */
export const LINE_MS = 10_000;
const CLEAR_LINE = '\r\x1b[K';

/** The progress of a command: on a terminal one line that is redrawn, elsewhere a line from time to time. */
export class ProgressLine implements Disposable {
  readonly isTerminal: boolean;
  readonly #output: Output;
  #timer: NodeJS.Timeout | undefined;

  constructor(output: Output) {
    this.#output = output;
    this.isTerminal = !output.json && process.stderr.isTTY;
  }

  /** Shows from now on what `describe` returns; nothing while it returns undefined. */
  show(describe: () => ProgressFacts | undefined): void {
    clearInterval(this.#timer);
    const draw = (): void => {
      const now = describe();
      if (now === undefined) return;
      if (this.isTerminal) this.redraw(now.text);
      else if (this.#output.json) this.#output.result('progress', now.facts);
      else this.#output.note(now.text);
    };
    this.#timer = setInterval(draw, this.isTerminal ? REDRAW_MS : LINE_MS);
  }

  /** Replaces the line on a terminal. */
  redraw(text: string): void {
    process.stderr.write(CLEAR_LINE);
    printTo(process.stderr, text.slice(0, columns()));
  }

  /** Calls `print` without damaging the line. */
  above(print: () => void): void {
    if (this.isTerminal) process.stderr.write(CLEAR_LINE);
    print();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.isTerminal) process.stderr.write(CLEAR_LINE);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

function columns(): number {
  return (process.stderr.columns ?? 80) - 1;
}
