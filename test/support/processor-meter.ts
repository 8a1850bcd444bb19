import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const SAMPLE_MS = 250;

/** Measures the processor time of a process from now on, until it ends. */
export class ProcessorMeter implements Disposable {
  readonly #pid: number;
  readonly #ticksPerS = ticksPerSecond();
  readonly #before: number;
  readonly #timer: NodeJS.Timeout;
  #last: number;

  constructor(pid: number) {
    this.#pid = pid;
    this.#before = this.#last = ticksOf(pid) ?? 0;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS).unref();
  }

  /** User and system, in seconds. */
  get seconds(): number {
    this.#sample();
    return (this.#last - this.#before) / this.#ticksPerS;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    this.#last = ticksOf(this.#pid) ?? this.#last;
  }
}

/** @returns undefined once the process has ended */
function ticksOf(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(') ') + 2).split(' '); // from the third on (proc(5))
    const ticks = Number(fields[11]) + Number(fields[12]);
    return fields[0] === 'Z' && ticks === 0 ? undefined : ticks;
  } catch {
    return undefined;
  }
}

function ticksPerSecond(): number {
  return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
}
