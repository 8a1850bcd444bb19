import { setTimeout as sleep } from 'node:timers/promises';
import { HttpClient, type HttpClientOptions } from './client.ts';

/** Interval of questions, and of looks at one without an answer. */
const ASK_MS = 150;
const LOOK_MS = 50;
/** Time without an answer after which a question has failed. */
const FAILED_MS = 10_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Failures in a row after which the next address is asked. */
const FAILURES_AT_MOST = 3;
const IDLE_LOOK_MS = 250;
/** Questions before there is anything to download: they find the line empty. */
const FIRST_QUESTIONS = 3;

export interface DelayProbeOptions {
  readonly http: HttpClientOptions | (() => Promise<HttpClientOptions>) | undefined;
  /** Returns addresses of small files on servers beyond the line. The first that answers is asked. */
  readonly urls: () => readonly string[];
  /** Returns true while the delay matters. */
  readonly isWanted: () => boolean;
  /** Called with each delay, and repeatedly with the time so far of a question without an answer. */
  readonly onDelay: (delayMs: number, isAnswered: boolean) => void;
  /** Called when no server answers. */
  readonly onBlind: () => void;
}

/**
 * Measures the delay of a line by small questions over a connection of its own, a few a second. Time in which this
 * process was busy does not count.
 */
export class DelayProbe implements AsyncDisposable {
  readonly #options: DelayProbeOptions;
  readonly #http: HttpClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: DelayProbeOptions) {
    this.#options = options;
    this.#http = new HttpClient(async () => {
      const given = typeof options.http === 'function' ? await options.http() : options.http;
      return { ...given, connectionsPerOrigin: 1, stallTimeoutMs: FAILED_MS, connectTimeoutMs: FAILED_MS, retries: 0 };
    });
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#http.close();
  }

  async #run(): Promise<void> {
    const { isWanted, onBlind } = this.#options;
    const { signal } = this.#stop;
    let failures = 0;
    let asked = 0;
    for (let at = 0; !signal.aborted;) {
      const startedAtMs = performance.now();
      const isToAsk = asked < FIRST_QUESTIONS || isWanted();
      const urls = isToAsk ? this.#options.urls() : [];
      const url = urls[at % urls.length];
      if (url !== undefined) {
        asked++;
        failures = (await this.#ask(url)) ? 0 : failures + 1;
      }
      if (failures >= FAILURES_AT_MOST && !signal.aborted) {
        failures = 0;
        at++;
        onBlind();
      }
      const pauseMs = isToAsk ? Math.max(0, startedAtMs + ASK_MS - performance.now()) : IDLE_LOOK_MS;
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** @returns false if there was no answer */
  async #ask(url: string): Promise<boolean> {
    const { onDelay } = this.#options;
    const startedAtMs = performance.now();
    let busyMs = 0;
    let lookedAtMs = startedAtMs;
    const look = (): number => {
      const nowMs = performance.now();
      busyMs = Math.max(busyMs, nowMs - lookedAtMs - LOOK_MS);
      lookedAtMs = nowMs;
      return nowMs - startedAtMs - Math.max(0, busyMs);
    };
    const timer = setInterval(() => {
      const delayMs = look();
      onDelay(delayMs, false);
    }, LOOK_MS).unref();
    try {
      await this.#http.getBytes(url, { maxBytes: MAX_ANSWER_BYTES, isShort: true, signal: this.#stop.signal });
      onDelay(look(), true);
      return true;
    } catch {
      return false;
    } finally {
      clearInterval(timer);
    }
  }
}
