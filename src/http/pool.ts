import type { Socket } from 'node:net';
import type { PoolSending } from './pool-sending.ts';
import type { Route } from './route.ts';

/** Time for which an unused connection stays open. Many servers close theirs after 5 s. */
const IDLE_MS = 4_000;

/** An open connection, and the request that uses it. */
interface Connection {
  readonly socket: Socket;
  sending: PoolSending | undefined;
  /** True if it has served a request. The server may close it at the same moment as the next one is sent. */
  isUsed: boolean;
}

/** The connections to one origin. Requests beyond their number wait, the first one first. */
export class Pool {
  readonly #route: Route;
  readonly #connectionsAtMost: number;
  readonly #connections = new Set<Connection>();
  /** The connections without a request. The last one was used last, and is open most likely. */
  readonly #idle: Connection[] = [];
  readonly #waiting: PoolSending[] = [];
  #opening = 0;
  readonly #closing = new AbortController();

  constructor(route: Route, connectionsAtMost: number) {
    this.#route = route;
    this.#connectionsAtMost = connectionsAtMost;
  }

  send(sending: PoolSending): void {
    const connection = this.#idle.pop();
    if (connection !== undefined) {
      this.#use(connection, sending);
      return;
    }
    this.#waiting.push(sending);
    this.#openMore();
  }

  close(): void {
    this.#closing.abort(new Error('the HTTP client was closed'));
    for (const { socket } of this.#connections) socket.destroy();
  }

  #openMore(): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.hasEnded) this.#waiting.shift();
    if (this.#closing.signal.aborted || this.#waiting.length <= this.#opening) return;
    if (this.#connections.size + this.#opening >= this.#connectionsAtMost) return;
    this.#opening++;
    void this.#route
      .open(this.#closing.signal)
      .then((socket) => this.#onOpen(socket))
      .catch((error: Error) => {
        this.#opening--;
        this.#next()?.fail(error);
        this.#openMore();
      });
  }

  #onOpen(socket: Socket): void {
    this.#opening--;
    const connection: Connection = { socket, sending: undefined, isUsed: false };
    this.#connections.add(connection);
    let failure: Error | undefined;
    socket.on('error', (error) => (failure = error));
    socket.on('data', (bytes: Buffer) => this.#onData(connection, bytes));
    socket.on('close', () => {
      this.#connections.delete(connection);
      const at = this.#idle.indexOf(connection);
      if (at !== -1) this.#idle.splice(at, 1);
      this.#onClose(connection, failure);
      this.#openMore();
    });
    socket.setTimeout(0);
    socket.on('timeout', () => socket.destroy());
    if (this.#closing.signal.aborted) socket.destroy();
    else this.#free(connection);
  }

  /** Sends a request again if a used connection was closed before a byte of the answer came (RFC 9112, 9.3.1). */
  #onClose({ sending, isUsed }: Connection, failure: Error | undefined): void {
    if (sending === undefined) return;
    if (!isUsed || this.#closing.signal.aborted || !sending.canBeRepeated) {
      sending.onClose(failure);
      return;
    }
    sending.detach();
    this.#waiting.unshift(sending);
  }

  #onData(connection: Connection, bytes: Buffer): void {
    const { sending, socket } = connection;
    if (sending === undefined) {
      socket.destroy(); // an answer that nobody asked for
      return;
    }
    sending.onData(bytes);
    if (!sending.hasEnded) return;
    connection.sending = undefined;
    connection.isUsed = true;
    if (sending.leavesConnection) this.#free(connection);
    else socket.destroy();
  }

  /** Gives a connection to the next request, or keeps it. */
  #free(connection: Connection): void {
    const next = this.#next();
    if (next !== undefined) {
      this.#use(connection, next);
      return;
    }
    this.#idle.push(connection);
    connection.socket.resume();
    connection.socket.setTimeout(IDLE_MS);
    connection.socket.unref();
  }

  #use(connection: Connection, sending: PoolSending): void {
    connection.sending = sending;
    connection.socket.setTimeout(0);
    connection.socket.ref();
    connection.socket.resume();
    try {
      sending.begin(connection.socket);
    } catch (error) {
      sending.fail(error as Error);
    }
  }

  #next(): PoolSending | undefined {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      if (!next.hasEnded) return next;
    return undefined;
  }
}
