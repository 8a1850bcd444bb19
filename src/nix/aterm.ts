import { isNarswarmError, NarswarmError } from '../errors.ts';
import { quote } from './quote.ts';

/** What stands for itself in a string. */
const PLAIN = /[^"\\]*/y;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/**
 * Reads the ATerms that Nix writes, from the start to the end. Each method moves on behind what it read, and throws
 * NarswarmError `DERIVATION_INVALID` where something else stands there.
 */
export class ATermReader {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** These characters. */
  expect(token: string): void {
    if (!this.#text.startsWith(token, this.#offset)) throw this.refuse(`expected ${token}`);
    this.#offset += token.length;
  }

  /** A comma and what follows it. */
  next<Value>(read: () => Value): Value {
    this.expect(',');
    return read();
  }

  /** `"…"`: a backslash takes n, r and t for the control characters and anything else as it is. */
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

  /** `[item,…]` */
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

  /** `[(key,value…),…]`, no key twice; `readValue` begins with the comma. */
  map<Key, Value>(readKey: () => Key, readValue: () => Value): Map<Key, Value> {
    const map = new Map<Key, Value>();
    this.list(() => {
      this.expect('(');
      const key = readKey();
      if (map.has(key)) throw this.refuse(`${quote(String(key))} comes twice`);
      map.set(key, readValue());
      this.expect(')');
    });
    return map;
  }

  /** The end of the text. */
  end(): void {
    if (this.#offset < this.#text.length) throw this.refuse('something follows its end');
  }

  /** What `parse` makes of a value that was just read; its failure is one of the derivation. */
  checked<Value>(text: string, parse: (text: string) => Value): Value {
    try {
      return parse(text);
    } catch (cause) {
      if (isNarswarmError(cause)) throw this.refuse(cause.message, { cause });
      throw cause;
    }
  }

  /** An error that says where it is. */
  refuse(reason: string, options: { cause?: unknown } = {}): NarswarmError {
    const offset = this.#offset;
    const message = `corrupt derivation: ${reason} (at character ${offset})`;
    return new NarswarmError('DERIVATION_INVALID', message, { ...options, facts: { offset } });
  }

  #isAt(character: string): boolean {
    return this.#text.charAt(this.#offset) === character;
  }
}
