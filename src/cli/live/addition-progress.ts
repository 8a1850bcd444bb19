import type { AdditionEvent } from '../../store/export/add-paths.ts';
import { WorkProgress } from './work-progress.ts';
import type { Output } from '../output.ts';
import { alreadyHere, formatCount, formatSize } from '../words/values.ts';

/** Shows the progress of `narswarm add`. Sizes are those of NARs before compression. */
export class AdditionProgress implements Disposable {
  readonly #output: Output;
  readonly #work: WorkProgress;
  readonly #startedAtMs = performance.now();

  constructor(output: Output) {
    this.#output = output;
    this.#work = new WorkProgress(output);
  }

  get durationMs(): number {
    return Math.round(performance.now() - this.#startedAtMs);
  }

  take(event: AdditionEvent): void {
    if (event.type === 'nar-exported') this.#work.add({ nars: 1 });
    else if (event.type === 'bytes-exported') this.#work.add({ bytes: event.bytes });
    else if (event.type !== 'exporting') this.#work.tellHashing(event);
    else {
      if (event.nars > 0) this.#output.note(exportInWords(event));
      this.#work.begin('exporting', event);
    }
  }

  stop(): void {
    this.#work.stop();
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

function exportInWords({ nars, bytes, keptBytes }: AdditionEvent & { readonly type: 'exporting' }): string {
  return `exporting ${formatCount(nars, 'NAR')}, ${formatSize(bytes)} before compression${alreadyHere(keptBytes)}`;
}
