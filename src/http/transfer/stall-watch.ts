import { OwnClock } from '../../bytes/own-clock.ts';

const LOOK_EVERY_MS = 250;

/** Something that must not take long. */
export interface Watched {
  /** Called four times a second with the time of {@link StallWatch.ownMs}. */
  look(ownMs: number): void;
}

/**
 * Looks at the answers that are awaited. Time in which this process did not run does not count: otherwise a server that has
 * sent everything would count as stalled, since its bytes were not read yet. Shared by all connections of a client.
 */
export class StallWatch {
  readonly #clock = new OwnClock();
  readonly #watched = new Set<Watched>();
  #timer: NodeJS.Timeout | undefined;

  /** Milliseconds from any start, for those that are watched. */
  get ownMs(): number {
    return this.#clock.ownMs;
  }

  /** Watches an answer, and keeps the process alive, until it is left. */
  watch(one: Watched): void {
    if (this.#watched.size === 0) {
      this.#clock.look(); // the time before does not count
      this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    }
    this.#watched.add(one);
  }

  leave(one: Watched): void {
    this.#watched.delete(one);
    if (this.#watched.size === 0) clearInterval(this.#timer);
  }

  #look(): void {
    this.#clock.look();
    for (const one of this.#watched) one.look(this.#clock.ownMs);
  }
}
