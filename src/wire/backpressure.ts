/** A receiver of bytes that may be full. Nothing is read for it meanwhile. */
export interface Backpressure {
  readonly isFull: boolean;
  /** Calls `listener` each time there is room again. @returns a function that ends the calls */
  onFree(listener: () => void): () => void;
}

/** Backpressure that its owner switches on and off. */
export class Brake implements Backpressure {
  #isFull = false;
  readonly #listeners = new Set<() => void>();

  get isFull(): boolean {
    return this.#isFull;
  }

  /** Stops reading. */
  pull(): void {
    this.#isFull = true;
  }

  /** Continues to read, unless something else is full. */
  release(): void {
    this.#isFull = false;
    for (const listener of this.#listeners) listener();
  }

  onFree(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
