/** Decides how many requests to have on one connection: pure, without a clock. */

/** Limit on requests on one connection, the one that is being answered included. */
const MOST = 8;
const AT_FIRST = 2;
/** Time that a server takes for an answer, beyond the fastest one. */
const QUICK_MS = 10;
const SLOW_MS = 50;
/** Number of connections that may break while requests wait for answers. After that, none is sent ahead. */
const MAX_BREAKS = 3;

/**
 * How many requests one connection to an origin may have ("pipelining", RFC 9112, 9.3.2). The server answers them one
 * after another: this saves round trips, but a slow answer delays those behind it. So the number grows while the server
 * answers quickly, and shrinks when it does not.
 */
export class RequestsAhead {
  #atMost = AT_FIRST;
  #fastestMs = Infinity;
  #breaks = 0;

  /** Limit on requests on a connection. */
  get atMost(): number {
    return this.#breaks < MAX_BREAKS ? this.#atMost : 1;
  }

  /** Takes the times when a request was sent, when it became the next one to be answered, and when its answer began. */
  noteAnswer({ sentAtMs, nextAtMs, answeredAtMs }: { sentAtMs: number; nextAtMs: number; answeredAtMs: number }): void {
    this.#fastestMs = Math.min(this.#fastestMs, answeredAtMs - sentAtMs);
    const lateMs = answeredAtMs - Math.max(nextAtMs, sentAtMs + this.#fastestMs);
    if (lateMs < QUICK_MS) this.#atMost = Math.min(MOST, this.#atMost + 1);
    else if (lateMs > SLOW_MS) this.#atMost = Math.max(1, this.#atMost >> 1);
  }

  /** Notes that a connection ended before all requests on it were answered. Some servers forget those behind the first. */
  noteBreak(): void {
    this.#breaks++;
  }

  /** Stops sending requests ahead: the server does not answer them. */
  giveUp(): void {
    this.#breaks = MAX_BREAKS;
  }
}
