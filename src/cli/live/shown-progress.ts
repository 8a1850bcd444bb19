import type { Output } from '../output.ts';
import type { Line } from './line.ts';
import type { Room } from './live-lines.ts';

/** Progress at one moment: as lines of a terminal, in one line elsewhere, and as facts for `--json`. */
export interface ProgressNow {
  readonly lines: (room: Room) => readonly Line[];
  readonly text: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

/** Time between two lines where nothing can be redrawn, in milliseconds. */
export const LINE_MS = 10_000;

/** The progress of a command: on a terminal lines that are redrawn, elsewhere a line from time to time. */
export class ShownProgress implements Disposable {
  readonly #output: Output;
  #timer: NodeJS.Timeout | undefined;

  constructor(output: Output) {
    this.#output = output;
  }

  /** From now on, shows the result of `describe`; nothing while it is undefined. */
  show(describe: () => ProgressNow | undefined): void {
    const { live } = this.#output;
    if (live !== undefined) {
      live.show((room) => describe()?.lines(room) ?? []);
      return;
    }
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const now = describe();
      if (now === undefined) return;
      if (this.#output.json) this.#output.result('progress', now.facts);
      else this.#output.note(now.text);
    }, LINE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#output.live?.stop();
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
