/** Counts the clients that wait for a NAR or receive it. */
export class Readers {
  readonly #onLeft: () => void;
  #count = 0;

  /** @param onLeft called when the last client has left */
  constructor(onLeft: () => void = () => undefined) {
    this.#onLeft = onLeft;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Counts a client. Call the returned function once the client has gone; a second call changes nothing. */
  enter(): () => void {
    let isHere = true;
    this.#count++;
    return () => {
      if (!isHere) return;
      isHere = false;
      this.#count--;
      if (this.#count === 0) this.#onLeft();
    };
  }
}
