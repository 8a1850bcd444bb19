import { AttemptFailure, explainNetworkError } from '../transfer/failure.ts';

/** Time for which an origin that was given up is not connected to again. */
const REST_MS = 10_000;

/**
 * Gives up an origin that has never accepted a connection, if connecting fails for some time. Then this machine is most
 * likely offline, and everything that is asked of the origin would wait for as long. An origin that was reached before
 * gets all its attempts: an outage of the line may end.
 */
export class Reach {
  readonly #giveUpMs: number;
  #hasConnected = false;
  /** Start of the first attempt since the last rest. */
  #sinceMs: number | undefined;
  #givenUp: { readonly failure: AttemptFailure; readonly atMs: number } | undefined;

  /** @param giveUpMs time of failing after which the origin is given up */
  constructor(giveUpMs: number) {
    this.#giveUpMs = giveUpMs;
  }

  /** Call before an attempt. @throws the last failure if the origin was given up a moment ago */
  begin(nowMs = performance.now()): void {
    if (this.#givenUp !== undefined) {
      if (nowMs - this.#givenUp.atMs < REST_MS) throw this.#givenUp.failure;
      this.#givenUp = undefined;
      this.#sinceMs = undefined;
    }
    this.#sinceMs ??= nowMs;
  }

  noteConnected(): void {
    this.#hasConnected = true;
    this.#givenUp = undefined;
  }

  /** Returns the failure of an attempt, without a retry if the origin is given up now. */
  failureOf(error: unknown, nowMs = performance.now()): unknown {
    if (this.#hasConnected || nowMs - (this.#sinceMs ?? nowMs) < this.#giveUpMs) return error;
    const { message, details } = explainNetworkError(error, 'headers');
    const failure = new AttemptFailure(message, { ...details, retry: 'never' });
    this.#givenUp ??= { failure, atMs: nowMs };
    return failure;
  }
}
