import { RateMeter } from '../bytes/rate-meter.ts';
import type { AdditionEvent } from '../store/add-paths.ts';
import type { Output } from './output.ts';
import { ProgressLine, type ProgressFacts } from './progress-line.ts';
import { alreadyHere, formatCount, formatDuration, formatSize } from './values.ts';

/** Shows the progress of `narswarm add`. Sizes are those of NARs before compression. */
export class AdditionProgress implements Disposable {
  readonly #output: Output;
  readonly #line: ProgressLine;
  readonly #startedAtMs = performance.now();
  readonly #rate = new RateMeter();
  #nars = 0;
  #totalNars = 0;
  #bytes = 0;
  #totalBytes = 0;

  constructor(output: Output) {
    this.#output = output;
    this.#line = new ProgressLine(output);
  }

  get durationMs(): number {
    return Math.round(performance.now() - this.#startedAtMs);
  }

  take(event: AdditionEvent): void {
    if (event.type === 'nar-exported') this.#nars++;
    else if (event.type === 'exporting') {
      this.#totalNars = event.nars;
      this.#totalBytes = event.bytes;
      this.#bytes = event.keptBytes;
      if (event.nars > 0) this.#output.note(exportInWords(event));
      this.#line.show(() => this.#describe());
    } else {
      this.#bytes += event.bytes;
      this.#rate.add(event.bytes);
    }
  }

  /** Calls `print` without damaging the progress line. */
  above(print: () => void): void {
    this.#line.above(print);
  }

  stop(): void {
    this.#line.stop();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #describe(): ProgressFacts | undefined {
    if (this.#nars === this.#totalNars) return undefined;
    const [nars, totalNars, bytes, totalBytes] = [this.#nars, this.#totalNars, this.#bytes, this.#totalBytes];
    const rate = this.#rate.rate();
    const secondsLeft = rate === 0 ? undefined : (totalBytes - bytes) / rate;
    const left = secondsLeft === undefined ? 'waiting for bytes' : `${formatDuration(secondsLeft * 1000)} left`;
    const percent = totalBytes === 0 ? 0 : Math.floor((bytes / totalBytes) * 100);
    return {
      text: `${percent}%, ${left}: ${nars}/${totalNars} NARs, ${formatSize(bytes)} of ${formatSize(totalBytes)}, ${formatSize(rate)}/s`,
      facts: {
        nars,
        totalNars,
        bytes,
        totalBytes,
        rateBytesPerSec: Math.round(rate),
        secondsLeft: secondsLeft === undefined ? null : Math.round(secondsLeft),
      },
    };
  }
}

function exportInWords({ nars, bytes, keptBytes }: AdditionEvent & { readonly type: 'exporting' }): string {
  return `exporting ${formatCount(nars, 'NAR')}, ${formatSize(bytes)} before compression${alreadyHere(keptBytes)}`;
}
