/**
 * Finds the places of keys in a TOML text. The parser returns the contents without lines, but messages need the line of
 * a key, and edits need the extent of a table. Accepts only texts that smol-toml has accepted.
 */
import { parse } from 'smol-toml';

/** One key or element. Each prefix of a dotted key or table header has its own place, at its first mention. */
export interface Place {
  readonly path: readonly (string | number)[];
  /** Line, counted from 1. */
  readonly line: number;
}

/** One `[table]` header, or one `key = value` with all its lines. */
export interface Statement {
  readonly kind: 'table' | 'value';
  /** Full path, including the table that it is in. */
  readonly path: readonly (string | number)[];
  /** Offset of its first character. */
  readonly start: number;
  /** Offset of the first character of its value; of a header, its end. */
  readonly value: number;
  /** Offset after its last character, before any comment and line end. */
  readonly end: number;
}

export interface Outline {
  readonly places: readonly Place[];
  readonly statements: readonly Statement[];
}

type Path = readonly (string | number)[];

const VOID = /(?:[ \t\r\n,\ufeff]|#[^\n]*)*/y;
const KEY = /(?:[ \t]*(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*\.?)+/y;
const STRING = /"""(?:[^\\]|\\[^])*?"{3,5}|'''[^]*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'/y;
/** Matches numbers, booleans and dates: only these may contain a single space. */
const BARE = /[^\s,\]}#]+(?: \d[^\s,\]}#]*)?/y;

/** Finds the keys of a valid TOML text. */
export function outline(text: string): Outline {
  return new Scanner(text).scan();
}

/** Returns the line of a key or element, or of the nearest one that encloses it; 1 for the whole text. */
export function lineOf({ places }: Outline, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const place = places.find((candidate) => samePath(candidate.path, path.slice(0, length)));
    if (place !== undefined) return place.line;
  }
  return 1;
}

/** Returns true if both paths have the same keys. */
export function samePath(one: Path, other: Path): boolean {
  return one.length === other.length && one.every((key, index) => String(key) === String(other[index]));
}

class Scanner {
  readonly #text: string;
  readonly #places: Place[] = [];
  readonly #statements: Statement[] = [];
  readonly #arrayTables = new Map<string, number>();
  #at = 0;
  #line = 1;
  #counted = 0;

  constructor(text: string) {
    this.#text = text;
  }

  scan(): Outline {
    let table: Path = [];
    for (this.#take(VOID); this.#at < this.#text.length; this.#take(VOID)) {
      const start = this.#at;
      const isTable = this.#text[start] === '[';
      const { path, value } = isTable ? this.#header() : this.#pair(table);
      if (isTable) table = path;
      this.#statements.push({ kind: isTable ? 'table' : 'value', path, start, value, end: this.#at });
    }
    return { places: this.#places, statements: this.#statements };
  }

  #header(): Pick<Statement, 'path' | 'value'> {
    const isArray = this.#text.startsWith('[[', this.#at);
    const start = this.#at;
    this.#at += isArray ? 2 : 1;
    const key = this.#key();
    this.#at += isArray ? 2 : 1;
    const path = isArray ? [...key, this.#nextIndex(key)] : key;
    this.#record([], path, start);
    return { path, value: this.#at };
  }

  #pair(table: Path): Pick<Statement, 'path' | 'value'> {
    const start = this.#at;
    const key = this.#key();
    this.#at++;
    const path = [...table, ...key];
    this.#record(table, key, start);
    this.#take(VOID);
    const value = this.#at;
    this.#value(path);
    return { path, value };
  }

  #value(path: Path): void {
    this.#take(VOID);
    const [open] = this.#text.slice(this.#at, this.#at + 1);
    if (open === '"' || open === "'") this.#take(STRING);
    else if (open === '[') this.#inside(']', (index) => this.#element(path, index));
    else if (open === '{') this.#inside('}', () => this.#pair(path));
    else this.#take(BARE);
  }

  #inside(close: string, item: (index: number) => void): void {
    this.#at++;
    this.#take(VOID);
    for (let index = 0; this.#at < this.#text.length && this.#text[this.#at] !== close; index++) {
      item(index);
      this.#take(VOID);
    }
    this.#at++;
  }

  #element(path: Path, index: number): void {
    this.#record(path, [index], this.#at);
    this.#value([...path, index]);
  }

  /** Lets the parser decode quotes and escapes in a key. */
  #key(): string[] {
    let level: unknown = parse(`${this.#take(KEY)}=0`);
    const path: string[] = [];
    while (typeof level === 'object' && level !== null) {
      const [[name, below] = []] = Object.entries(level) as [string, unknown][];
      if (name === undefined) break;
      path.push(name);
      level = below;
    }
    return path;
  }

  #nextIndex(key: Path): number {
    const name = JSON.stringify(key);
    const index = this.#arrayTables.get(name) ?? 0;
    this.#arrayTables.set(name, index + 1);
    return index;
  }

  #record(table: Path, key: Path, at: number): void {
    const line = this.#countTo(at);
    for (let length = 1; length <= key.length; length++) {
      const path = [...table, ...key.slice(0, length)];
      const isKnown = length < key.length && this.#places.some((place) => samePath(place.path, path));
      if (!isKnown) this.#places.push({ path, line });
    }
  }

  /** Returns the line of an offset. Offsets must come in order. */
  #countTo(at: number): number {
    this.#line += this.#text.slice(this.#counted, at).split('\n').length - 1;
    this.#counted = at;
    return this.#line;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const [found = ''] = pattern.exec(this.#text) ?? [];
    this.#at += found.length;
    return found;
  }
}
