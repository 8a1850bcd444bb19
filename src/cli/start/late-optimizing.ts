import { setFlagsFromString } from 'node:v8';

/** V8's optimizing compilers, and the processors on which it has both. */
const OPTIMIZERS = ['maglev', 'turbofan'] as const;
const PROCESSORS: ReadonlySet<string> = new Set(['x64', 'arm64']);

/** Processor time of the main thread after which a run has functions that pay for being optimized. */
const LATE_MS = 2_000;
const LOOK_MS = 250;

/**
 * Lets V8 optimize functions only after two seconds of processor time. In a shorter run, its compilers take a tenth to a fifth of
 * all processor time, and give back less: 500 small NARs from one peer take 460 ms without them, and 550 ms with them. Eight
 * machines that start at once have a second each. In a longer run it makes no difference.
 */
export function optimizeLate(): void {
  if (!PROCESSORS.has(process.arch)) return;
  for (const optimizer of OPTIMIZERS) setFlagsFromString(`--no-${optimizer}`);
  process.prependOnceListener('exit', optimizeNow);
  const timer = setInterval(() => {
    const { user, system } = process.threadCpuUsage();
    if ((user + system) / 1000 < LATE_MS) return;
    clearInterval(timer);
    optimizeNow();
  }, LOOK_MS).unref();
}

/** Lets V8 optimize functions from now on. Called before compiled code is saved: V8 refuses code of other flags. */
export function optimizeNow(): void {
  if (!PROCESSORS.has(process.arch)) return;
  for (const optimizer of OPTIMIZERS) setFlagsFromString(`--${optimizer}`);
}
