/**
 * Reports the state of this process to systemd, or to another owner of NOTIFY_SOCKET: sd_notify(3). Node has no
 * datagram sockets of the unix domain, so `systemd-notify` sends the messages. It costs 5 ms of processor time in this
 * process, once for each message.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { asError, type Warn } from '../warning.ts';
import { withinMs } from '../within.ts';

/** Interval of status texts without a watchdog. */
const STATUS_MS = 60_000;
/** Limit on one message. systemd-notify waits until systemd has read it. */
const MESSAGE_MS = 10_000;
/** Time for the last message while the process ends. */
const LAST_MS = 1_000;

/** The service manager of this process. Without one, all of this does nothing. */
export class ServiceManager implements AsyncDisposable {
  readonly #socket: string | undefined;
  /** Interval at which the manager expects a notification. Undefined if it expects none. */
  readonly #watchdogMs: number | undefined;
  readonly #onWarning: Warn;
  #last: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #status: (() => string) | undefined;
  #told = '';
  #hasWarned = false;
  #isStopping = false;

  /**
   * Finds the manager. Removes its variables, so that the programs that this process starts do not speak for it.
   *
   * @param env the environment of the process
   */
  constructor(env: NodeJS.ProcessEnv, onWarning: Warn) {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    this.#onWarning = onWarning;
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') return;
    this.#socket = NOTIFY_SOCKET;
    const isMeant = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
    const watchdogMs = Number(WATCHDOG_USEC) / 1_000;
    if (isMeant && watchdogMs > 0) this.#watchdogMs = watchdogMs;
  }

  /**
   * Reports that the process is ready. From now on a timer reports that the event loop runs, and the status if it has
   * changed.
   */
  ready(status: () => string): void {
    this.#status = status;
    void this.#tell(['READY=1', ...this.#news()]);
    if (this.#socket === undefined) return;
    const everyMs = this.#watchdogMs === undefined ? STATUS_MS : this.#watchdogMs / 2;
    this.#timer = setInterval(() => this.#beat(), everyMs).unref();
  }

  /** Reports a reload, reads the configuration again, and reports that the process is ready. */
  async reload(work: () => Promise<void>): Promise<void> {
    const monotonicUsec = process.hrtime.bigint() / 1_000n; // CLOCK_MONOTONIC
    void this.#tell(['RELOADING=1', `MONOTONIC_USEC=${monotonicUsec}`]);
    try {
      await work();
    } finally {
      void this.#tell(['READY=1', ...this.#news()]);
    }
  }

  /** Reports that the process is about to end. Nothing is reported after that. */
  stopping(): void {
    clearInterval(this.#timer);
    void this.#tell(['STOPPING=1', 'STATUS=stopping']);
    this.#isStopping = true;
  }

  /** Waits for a moment until everything is reported. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await withinMs(LAST_MS, this.#last);
  }

  #beat(): void {
    const assignments = [...(this.#watchdogMs === undefined ? [] : ['WATCHDOG=1']), ...this.#news()];
    if (assignments.length > 0) void this.#tell(assignments);
  }

  #news(): string[] {
    const status = this.#status?.() ?? '';
    if (status === this.#told) return [];
    this.#told = status;
    return [`STATUS=${status}`];
  }

  /** Sends a message after those before. Never rejects. */
  #tell(assignments: readonly string[]): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined || this.#isStopping) return Promise.resolve();
    this.#last = this.#last.then(async () => {
      try {
        const env = { ...process.env, NOTIFY_SOCKET: socket };
        await promisify(execFile)('systemd-notify', assignments, { env, timeout: MESSAGE_MS });
      } catch (error) {
        if (!this.#hasWarned) this.#onWarning({ kind: 'unheard', error: asError(error) });
        this.#hasWarned = true;
      }
    });
    return this.#last;
  }
}
