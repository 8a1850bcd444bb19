import { Connection } from './connection.ts';
import type { PoolSending } from './pool-sending.ts';
import { RequestsAhead } from './requests-ahead.ts';
import type { Route } from '../route/route.ts';

/** Time for which an unused connection stays open. Many servers close theirs after 5 s. */
const IDLE_MS = 4_000;

/** Part of the connections that take no NARs. */
const WITHOUT_NARS = 1 / 6;

/**
 * The connections to one origin. Requests beyond their number wait, the first one first. Narinfos do not wait for NARs,
 * which a limit on the rate may hold back for minutes: some connections take no NARs, and no narinfo is sent behind one.
 */
export class Pool {
  readonly #route: Route;
  readonly #connectionsAtMost: number;
  readonly #narConnectionsAtMost: number;
  readonly #connections = new Set<Connection>();
  /** The connections without a request. The last one was used last, and is open most likely. */
  readonly #idle: Connection[] = [];
  readonly #ahead = new RequestsAhead();
  #waiting: PoolSending[] = [];
  #opening = 0;
  #isToAssign = false;
  readonly #closing = new AbortController();

  constructor(route: Route, connectionsAtMost: number) {
    this.#route = route;
    this.#connectionsAtMost = connectionsAtMost;
    this.#narConnectionsAtMost = connectionsAtMost - Math.floor(connectionsAtMost * WITHOUT_NARS);
  }

  send(sending: PoolSending): void {
    this.#waiting.push(sending);
    this.#assignSoon();
  }

  close(): void {
    this.#closing.abort(new Error('the HTTP client was closed'));
    for (const connection of this.#connections) connection.close();
  }

  /** Assigns the requests of one turn of the event loop together: those for one connection leave in one packet. */
  #assignSoon(): void {
    if (this.#isToAssign) return;
    this.#isToAssign = true;
    process.nextTick(() => {
      this.#isToAssign = false;
      this.#assign();
    });
  }

  /** Gives the waiting requests to connections, and opens more for the rest. */
  #assign(): void {
    const waiting = this.#waiting.filter(({ hasEnded }) => !hasEnded);
    const used = new Set<Connection>();
    this.#waiting = [];
    // All connections are opened before one of them gets a second request. Those that take none ahead are not waited for.
    const evenly = Math.ceil((waiting.length + this.#load()) / this.#connectionsAtMost);
    const requestsAtMost = this.#connections.size < this.#connectionsAtMost ? evenly : Infinity;
    const full = new Set<number>(); // within one turn, no connection gets room for another one of a kind
    for (const sending of waiting) {
      const kind = kindOf(sending);
      if (full.has(kind)) {
        this.#waiting.push(sending);
        continue;
      }
      const mayTakeFree = !sending.isNar || this.#narConnections() < this.#narConnectionsAtMost;
      const free = mayTakeFree ? this.#idle.pop() : undefined;
      const connection = free ?? (sending.isShort && evenly > 1 ? this.#withRoom(requestsAtMost, sending) : undefined);
      if (connection === undefined) {
        full.add(kind);
        this.#waiting.push(sending);
      } else {
        connection.add(sending);
        used.add(connection);
      }
    }
    for (const connection of used) {
      connection.flush();
      if (connection.load === 0) this.#onFree(connection); // its request could not be sent
    }
    for (const connection of this.#idle) connection.rest(IDLE_MS);
    this.#openMore();
  }

  #narConnections(): number {
    let count = 0;
    for (const { hasNar } of this.#connections) if (hasNar) count++;
    return count;
  }

  #load(): number {
    let load = 0;
    for (const connection of this.#connections) load += connection.load;
    return load;
  }

  /** Returns the connection with the fewest requests that may get one more behind them. NARs go behind NARs only. */
  #withRoom(requestsAtMost: number, { isNar }: PoolSending): Connection | undefined {
    let best: Connection | undefined;
    for (const connection of this.#connections)
      if (
        connection.hasNar === isNar &&
        connection.takesMoreAhead &&
        connection.load < Math.min(requestsAtMost, best?.load ?? Infinity)
      )
        best = connection;
    return best;
  }

  #openMore(): void {
    if (this.#closing.signal.aborted) return;
    const waitingNars = this.#waiting.filter(({ isNar }) => isNar).length;
    const roomForNars = this.#narConnectionsAtMost - this.#narConnections();
    const wanted = this.#waiting.length - waitingNars + Math.min(waitingNars, roomForNars);
    while (wanted > this.#opening && this.#connections.size + this.#opening < this.#connectionsAtMost) {
      this.#opening++;
      void this.#open();
    }
  }

  async #open(): Promise<void> {
    try {
      const socket = await this.#route.open(this.#closing.signal);
      const connection = new Connection(socket, this.#ahead, {
        free: (one) => this.#onFree(one),
        ended: (one, unanswered) => this.#onEnd(one, unanswered),
      });
      this.#connections.add(connection);
      if (this.#closing.signal.aborted) connection.close();
      else this.#onFree(connection);
    } catch (error) {
      this.#takeWaiting()?.fail(error as Error);
      this.#assignSoon();
    } finally {
      this.#opening--;
    }
  }

  #onFree(connection: Connection): void {
    if (connection.load === 0) {
      this.#idle.push(connection);
      if (this.#waiting.length === 0) connection.rest(IDLE_MS);
    }
    if (this.#waiting.length > 0) this.#assignSoon();
  }

  #onEnd(connection: Connection, unanswered: readonly PoolSending[]): void {
    this.#connections.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    if (!this.#closing.signal.aborted) this.#waiting.unshift(...unanswered);
    else for (const sending of unanswered) sending.onClose(undefined);
    this.#assignSoon();
  }

  #takeWaiting(): PoolSending | undefined {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      if (!next.hasEnded) return next;
    return undefined;
  }
}

/** Returns the kind of a request: those of one kind may be sent over the same connections. */
function kindOf({ isNar, isShort }: PoolSending): number {
  return Number(isNar) * 2 + Number(isShort);
}
