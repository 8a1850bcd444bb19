/** A priority queue of numbers. The smallest rank comes first; among equals, the last one added. */
export class Heap {
  readonly #items: number[] = [];
  readonly #ranks: number[] = [];
  readonly #turns: number[] = [];
  #turn = 0;

  get size(): number {
    return this.#items.length;
  }

  push(item: number, rank: number): void {
    let at = this.#items.length;
    this.#put(at, item, rank, this.#turn++);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  pop(): number | undefined {
    const first = this.#items[0];
    const last = this.#items.length - 1;
    if (first === undefined) return undefined;
    this.#swap(0, last);
    this.#items.pop();
    this.#ranks.pop();
    this.#turns.pop();
    for (let at = 0; ;) {
      const left = 2 * at + 1;
      if (left >= last) break;
      const child = left + 1 < last && this.#isBefore(left + 1, left) ? left + 1 : left;
      if (!this.#isBefore(child, at)) break;
      this.#swap(child, at);
      at = child;
    }
    return first;
  }

  #isBefore(a: number, b: number): boolean {
    const difference = (this.#ranks[a] ?? 0) - (this.#ranks[b] ?? 0);
    return difference === 0 ? (this.#turns[a] ?? 0) > (this.#turns[b] ?? 0) : difference < 0;
  }

  #swap(a: number, b: number): void {
    const [item = 0, rank = 0, turn = 0] = [this.#items[a], this.#ranks[a], this.#turns[a]];
    this.#put(a, this.#items[b] ?? 0, this.#ranks[b] ?? 0, this.#turns[b] ?? 0);
    this.#put(b, item, rank, turn);
  }

  #put(at: number, item: number, rank: number, turn: number): void {
    this.#items[at] = item;
    this.#ranks[at] = rank;
    this.#turns[at] = turn;
  }
}
