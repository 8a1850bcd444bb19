import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { quote } from '../quote.ts';

/** Characters of a string that need no escape. */
const PLAIN = /[^"\\]*/y;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/**
 * Reads the ATerms that Nix writes, from start to end. Each method moves past the text that it read.
 *
 * @throws NarswarmError `DERIVATION_INVALID` if the text has something else at this place.
 */
export class ATermReader {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Reads exactly these characters. */
  expect(token: string): void {
    if (!this.#text.startsWith(token, this.#offset)) throw this.refuse(`expected ${token}`);
    this.#offset += token.length;
  }

  /** Reads a comma, then a value. */
  next<Value>(read: () => Value): Value {
    this.expect(',');
    return read();
  }

  /** Reads `"…"`. After a backslash, n, r and t stand for control characters; any other character stands for itself. */
  string(): string {
    this.expect('"');
    let value = '';
    for (;;) {
      PLAIN.lastIndex = this.#offset;
      const [plain = ''] = PLAIN.exec(this.#text) ?? [];
      this.#offset += plain.length;
      value += plain;
      if (this.#offset + 1 >= this.#text.length) throw this.refuse('it ends within a string');
      if (this.#isAt('"')) break;
      const escaped = this.#text.charAt(this.#offset + 1);
      value += ESCAPES[escaped] ?? escaped;
      this.#offset += 2;
    }
    this.#offset += 1;
    return value;
  }

  /** Reads `[item,…]`. */
  list<Item>(read: () => Item): Item[] {
    const items: Item[] = [];
    this.expect('[');
    while (!this.#isAt(']')) {
      if (items.length > 0) this.expect(',');
      items.push(read());
    }
    this.expect(']');
    return items;
  }

  /** Reads `[(key,value…),…]`. No key may repeat. `readValue` reads the comma before the value, too. */
  map<Key, Value>(readKey: () => Key, readValue: () => Value): Map<Key, Value> {
    const map = new Map<Key, Value>();
    this.list(() => {
      this.expect('(');
      const key = readKey();
      if (map.has(key)) throw this.refuse(`${quote(String(key))} is repeated`);
      map.set(key, readValue());
      this.expect(')');
    });
    return map;
  }

  /** Expects the end of the text. */
  end(): void {
    if (this.#offset < this.#text.length) throw this.refuse('expected the end of the text');
  }

  /** Parses a string that was just read. Reports a failure of `parse` as an error of the derivation. */
  checked<Value>(text: string, parse: (text: string) => Value): Value {
    try {
      return parse(text);
    } catch (cause) {
      if (isNarswarmError(cause)) throw this.refuse(cause.message, { cause });
      throw cause;
    }
  }

  /** Makes an error that names the offset. */
  refuse(reason: string, options: { cause?: unknown } = {}): NarswarmError {
    const offset = this.#offset;
    const message = `corrupt derivation: ${reason} (at character ${offset})`;
    return new NarswarmError('DERIVATION_INVALID', message, { ...options, facts: { offset } });
  }

  #isAt(character: string): boolean {
    return this.#text.charAt(this.#offset) === character;
  }
}
