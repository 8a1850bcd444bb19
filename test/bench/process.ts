/** Processes of a run: services that stay, and clients that are measured. Each is ended by its own id. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ProcessorMeter } from '../support/processor-meter.ts';

export type Argv = readonly [program: string, ...args: string[]];

/** The time and memory that a client took. */
export interface Measurement {
  /** Seconds from the start of the process to its end. */
  readonly wallS: number;
  readonly userS: number;
  readonly systemS: number;
  /** Peak memory of the largest process. */
  readonly peakRssBytes: number;
  /** Peak memory of the process and all below it together. Pages that they share are counted for each. */
  readonly peakTreeRssBytes: number;
  /** Negative for a signal. */
  readonly status: number;
  readonly isTimeout: boolean;
}

export interface ProcessOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

const LOG_CHARACTERS = 2000;
const KILL_AFTER_MS = 5000;

/** The path of a script of this folder. */
export function scriptPath(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

/** A process that serves the clients until it is closed. */
export class Service implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  /** Its message when it was ready: a port, an address. */
  readonly ready: Readonly<Record<string, unknown>>;

  private constructor(child: ChildProcess, exit: Promise<unknown>, ready: Record<string, unknown>) {
    this.#child = child;
    this.#exit = exit;
    this.ready = ready;
  }

  /** Starts it and waits for its line `{"event":"ready",…}`. @throws Error with the end of its stderr if it ends first */
  static async start([program, ...args]: Argv, { env, signal }: ProcessOptions): Promise<Service> {
    const child = spawn(program, args, { env, signal, stdio: ['ignore', 'pipe', 'pipe'] });
    const exit = new Promise<void>((resolve) => child.once('close', () => resolve()));
    child.on('error', () => undefined); // told by the end of its output
    const log = logOf(child);
    for await (const line of createInterface({ input: child.stdout })) {
      const event = parseEvent(line);
      if (event?.['event'] !== 'ready') continue;
      child.stdout.resume();
      return new Service(child, exit, event);
    }
    signal.throwIfAborted();
    throw new Error(`${program} ${args[0]} did not start: ${log()}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Measures its processor time from now on. */
  measure(): ProcessorMeter {
    return new ProcessorMeter(this.#child.pid ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGCONT');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), KILL_AFTER_MS);
    await this.#exit;
    clearTimeout(timer);
  }
}

/** The outcome of a client. */
export interface ClientEnd {
  /** Seconds from its start. */
  readonly seconds: number;
  /** Its processor time, user and system. Of a client that has ended, up to a quarter of a second less. */
  readonly cpuS: number;
  /** Its own report, if it makes one. */
  readonly facts: Readonly<Record<string, unknown>> | undefined;
  readonly log: string;
  /** The reason if it does not have everything. */
  readonly failure: string | undefined;
}

/** A client that runs beside others. Disposing of it kills it. */
export class Client implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  readonly #end: Promise<ClientEnd>;

  private constructor(child: ChildProcess, exits: boolean) {
    const startedAtMs = performance.now();
    this.#child = child;
    this.#exit = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const log = logOf(child);
    const meter = new ProcessorMeter(child.pid ?? 0);
    void this.#exit.then(() => meter[Symbol.dispose]());
    const endOf = (facts: ClientEnd['facts'], failure?: string): ClientEnd => ({
      seconds: (performance.now() - startedAtMs) / 1000,
      cpuS: meter.seconds,
      facts,
      log: log(),
      failure,
    });
    this.#end = new Promise((resolve) => {
      child.on('error', ({ message }) => resolve(endOf(undefined, message)));
      child.once('close', (status, signal) => {
        const isGood = exits && status === 0;
        resolve(endOf(undefined, isGood ? undefined : `ended with ${status ?? signal}: ${log()}`));
      });
      if (child.stdout === null) return;
      createInterface({ input: child.stdout }).on('line', (line) => {
        const event = parseEvent(line);
        if (event?.['event'] === 'done') resolve(endOf(event));
      });
    });
  }

  /** @param exits whether it has ended when it has everything; otherwise it says `{"event":"done",…}` */
  static start([program, ...args]: Argv, exits: boolean, { env, signal }: ProcessOptions): Client {
    return new Client(spawn(program, args, { env, signal, stdio: ['ignore', 'pipe', 'pipe'] }), exits);
  }

  /** Waits until it has everything, at most for this time. */
  async end(limitS: number): Promise<ClientEnd> {
    const limit = new Promise<ClientEnd>((resolve) => {
      const failure = `does not have everything after ${limitS} s`;
      setTimeout(
        () => resolve({ seconds: limitS, cpuS: NaN, facts: undefined, log: '', failure }),
        limitS * 1000,
      ).unref();
    });
    return Promise.race([this.#end, limit]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit;
  }
}

/** Runs a client to its end, or kills it after `limitS` seconds. Its own failure is no error: see `status` and `log`. */
export async function measure(
  python: string,
  command: Argv,
  limitS: number,
  { env, signal }: ProcessOptions,
): Promise<Measurement & { log: string }> {
  const args = [scriptPath('measure.py'), String(limitS), ...command];
  const child = spawn(python, args, { env, signal, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = logOf(child);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await once(child, 'close');
  signal.throwIfAborted();
  if (text === '') throw new Error(`${command[0]} could not be measured: ${log()}`);
  return { ...(JSON.parse(text) as Measurement), log: log() };
}

/** Collects the end of what a process writes to stderr. */
function logOf(child: ChildProcess): () => string {
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (log = (log + chunk).slice(-LOG_CHARACTERS)));
  return () => log.trim();
}

function parseEvent(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
