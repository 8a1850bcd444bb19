const KEY_BYTES = 32;
const START = 1024;

/**
 * Numbers 32-byte keys from 0, in order of arrival. A hundred thousand keys take about 5 MB in three arrays. As strings
 * in a Map they would take 20 MB, and each garbage collection would visit them all.
 */
export class KeyTable {
  #keys = new Uint8Array(START * KEY_BYTES);
  /** Number of a key plus one; 0 marks an empty slot. At most half full. */
  #slots = new Int32Array(START * 2);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Returns the number of a key. Assigns a new number to a new key. */
  intern(key: Uint8Array): number {
    const slot = this.#find(key);
    const found = this.#slots[slot] ?? 0;
    if (found > 0) return found - 1;
    if ((this.#size + 1) * 2 > this.#slots.length) {
      this.#grow();
      return this.intern(key);
    }
    this.#keys.set(key.subarray(0, KEY_BYTES), this.#size * KEY_BYTES);
    this.#slots[slot] = this.#size + 1;
    return this.#size++;
  }

  /** Returns the number of a key, or -1 if it has none. */
  numberOf(key: Uint8Array): number {
    return (this.#slots[this.#find(key)] ?? 0) - 1;
  }

  /** Returns the key of a number. Valid until the next key is added. */
  keyOf(number: number): Uint8Array {
    return this.#keys.subarray(number * KEY_BYTES, (number + 1) * KEY_BYTES);
  }

  #find(key: Uint8Array): number {
    const mask = this.#slots.length - 1;
    for (let slot = hashOf(key) & mask; ; slot = (slot + 1) & mask) {
      const found = this.#slots[slot] ?? 0;
      if (found === 0 || this.#isAt(found - 1, key)) return slot;
    }
  }

  #isAt(number: number, key: Uint8Array): boolean {
    const start = number * KEY_BYTES;
    for (let at = 0; at < KEY_BYTES; at++) if (this.#keys[start + at] !== key[at]) return false;
    return true;
  }

  #grow(): void {
    const keys = new Uint8Array(this.#keys.length * 2);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#slots = new Int32Array(this.#slots.length * 2);
    for (let number = 0; number < this.#size; number++) this.#slots[this.#find(this.keyOf(number))] = number + 1;
  }
}

/** Computes FNV-1a. Keys are hashes or their digits: nobody gains from collisions. */
function hashOf(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < KEY_BYTES; at++) hash = Math.imul(hash ^ (key[at] ?? 0), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}

type Numbers = Int32Array | Float64Array | Uint8Array;

/** A growing column of numbers. Unset entries are `empty`. */
export class Column<T extends Numbers> {
  #values: T;
  readonly #empty: number;

  constructor(kind: new (length: number) => T, empty = 0) {
    this.#values = new kind(START).fill(empty) as T;
    this.#empty = empty;
  }

  get(at: number): number {
    return this.#values[at] ?? this.#empty;
  }

  set(at: number, value: number): void {
    if (at >= this.#values.length) this.#grow(at);
    this.#values[at] = value;
  }

  add(at: number, value: number): number {
    const sum = this.get(at) + value;
    this.set(at, sum);
    return sum;
  }

  #grow(at: number): void {
    let length = this.#values.length;
    while (length <= at) length *= 2;
    const Kind = this.#values.constructor as new (length: number) => T;
    const values = new Kind(length).fill(this.#empty, this.#values.length) as T;
    values.set(this.#values);
    this.#values = values;
  }
}
