/** Numbers names from 0, in order of arrival. */
export class Numbering {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];

  get size(): number {
    return this.#names.length;
  }

  /** Returns the number of a name. Assigns a new number to a new name. */
  intern(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.#names.length);
    return this.#names.push(name) - 1;
  }

  /** Returns the number of a name, or -1 if it has none. */
  numberOf(name: string): number {
    return this.#numbers.get(name) ?? -1;
  }

  /** Returns the name of a number. The number must have been assigned. */
  nameOf(number: number): string {
    return this.#names[number] ?? '';
  }
}
