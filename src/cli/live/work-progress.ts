import { SteadyRate } from '../../bytes/steady-rate.ts';
import type { HashingEvent } from '../../store/hashing/hashing.ts';
import type { Output } from '../output.ts';
import { ShownProgress } from './shown-progress.ts';
import { workFacts, workInWords, workLines, type Work } from './work-lines.ts';

/** Work to be done. */
export interface WorkToDo {
  readonly nars: number;
  /** Bytes of the NARs in all. */
  readonly bytes: number;
  /** Bytes of them for which nothing has to be done. Default: 0. */
  readonly keptBytes?: number;
}

/** Shows the progress of work on NARs of this machine, such as hashing or compressing. */
export class WorkProgress implements Disposable {
  readonly #shown: ShownProgress;
  #rate = new SteadyRate();
  #work = { verb: '', nars: 0, totalNars: 0, bytes: 0, totalBytes: 0 };

  constructor(output: Output) {
    this.#shown = new ShownProgress(output);
  }

  /** Begins to show work. */
  begin(verb: string, { nars, bytes, keptBytes = 0 }: WorkToDo): void {
    this.#work = { verb, nars: 0, totalNars: nars, bytes: keptBytes, totalBytes: bytes };
    this.#rate = new SteadyRate();
    if (nars === 0) {
      this.#shown.stop();
      return;
    }
    this.#shown.show(() => {
      const work = this.#now();
      if (work.nars >= work.totalNars) return undefined;
      return {
        lines: (room) => workLines(work, room),
        text: `${work.verb}: ${workInWords(work)}`,
        facts: { step: work.verb, ...workFacts(work) },
      };
    });
  }

  add({ nars = 0, bytes = 0 }: { readonly nars?: number; readonly bytes?: number }): void {
    this.#work.nars += nars;
    this.#work.bytes += bytes;
    this.#rate.add(bytes);
    if (nars > 0 && this.#work.nars >= this.#work.totalNars) this.#shown.stop();
  }

  /** Shows the hashing of NARs. */
  readonly tellHashing = (event: HashingEvent): void => {
    if (event.type === 'hashing') this.begin('hashing', event);
    else this.add({ nars: 1, bytes: event.bytes });
  };

  stop(): void {
    this.#shown.stop();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #now(): Work {
    const { bytes, totalBytes } = this.#work;
    const secondsLeft = this.#rate.secondsFor(Math.max(0, totalBytes - bytes));
    return { ...this.#work, rate: this.#rate.rate(), isAwaited: false, secondsLeft };
  }
}
