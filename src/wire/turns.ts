import { hostKeyOf } from './address-range.ts';

/**
 * Answers that are made at a time: enough to keep the threads busy that read files, few enough to fit into the
 * processor's cache.
 */
const AT_ONCE = 8;
/** Answers that are begun in one turn of the event loop. Then it can receive further requests. */
const BEGUN_PER_LOOP = 32;
/** Time after which an answer that waits for a disk or a check makes room for others. */
const SLOW_MS = 10;

/** A connection that asks for something. */
export interface Asker {
  /** Address of its host. */
  readonly host: string;
}

/** The place of an answer that is being made. */
interface Place {
  readonly takenAtMs: number;
  isTaken: boolean;
}

type Waiting = (place: Place) => void;

/**
 * The order in which all connections are answered: hosts in turn, and the connections of a host in turn. A host with a
 * thousand connections and a million requests waits for itself. Others wait for one of its answers.
 */
export class Turns {
  /** Hosts, and the connections of each, in the order of their turns. */
  readonly #hosts = new Map<string, Map<Asker, Waiting[]>>();
  readonly #places = new Set<Place>();
  #takenPlaces = 0;
  #begun = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `answer` when it is this connection's turn. Rejects with its error. */
  async take<T>(asker: Asker, answer: () => Promise<T>): Promise<T> {
    const place = this.#hasPlace ? this.#takePlace() : await this.#wait(asker);
    try {
      return await answer();
    } finally {
      this.#places.delete(place);
      this.#leave(place);
      this.#go();
    }
  }

  get #hasPlace(): boolean {
    return this.#takenPlaces < AT_ONCE && this.#begun < BEGUN_PER_LOOP;
  }

  #takePlace(): Place {
    if (this.#begun++ === 0) {
      setImmediate(() => {
        this.#begun = 0;
        this.#go();
      });
    }
    const place = { takenAtMs: performance.now(), isTaken: true };
    this.#places.add(place);
    this.#takenPlaces++;
    return place;
  }

  #leave(place: Place): void {
    if (place.isTaken) this.#takenPlaces--;
    place.isTaken = false;
  }

  #wait(asker: Asker): Promise<Place> {
    const { promise, resolve } = Promise.withResolvers<Place>();
    const key = hostKeyOf(asker.host);
    const askers = this.#hosts.get(key) ?? new Map<Asker, Waiting[]>();
    this.#hosts.set(key, askers);
    const own = askers.get(asker);
    if (own === undefined) askers.set(asker, [resolve]);
    else own.push(resolve);
    this.#watchSlow();
    return promise;
  }

  /** Gives free places to waiting connections. */
  #go(): void {
    while (this.#hasPlace) {
      const next = this.#next();
      if (next === undefined) return;
      next(this.#takePlace());
    }
  }

  /** Takes the first connection of the first host. Both move to the end of the order. */
  #next(): Waiting | undefined {
    const [host] = this.#hosts;
    if (host === undefined) return undefined;
    const [key, askers] = host;
    const [[asker, waiting]] = askers as unknown as readonly [[Asker, Waiting[]]];
    askers.delete(asker);
    this.#hosts.delete(key);
    const next = waiting.shift();
    if (waiting.length > 0) askers.set(asker, waiting);
    if (askers.size > 0) this.#hosts.set(key, askers);
    return next;
  }

  /** Frees the places of slow answers while others wait. */
  #passSlow(): void {
    this.#timer = undefined;
    const slowSinceMs = performance.now() - SLOW_MS;
    for (const place of this.#places) if (place.takenAtMs <= slowSinceMs) this.#leave(place);
    this.#go();
    if (this.#hosts.size > 0) this.#watchSlow();
  }

  #watchSlow(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#passSlow(), SLOW_MS).unref();
  }
}
