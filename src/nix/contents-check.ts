/**
 * Checks the bytes of a NAR against the content address of its path, as Nix does when it adds a path to its store (Nix:
 * `LocalStore::addToStore`, `HashModuloSink`).
 */
import { createHash, type Hash } from 'node:crypto';
import { parseContentAddress } from './content-address.ts';
import type { NarInfo } from './narinfo.ts';
import { storeHashOf } from './store-path.ts';
import { encodeString } from './programs/wire-format.ts';

/** Takes an uncompressed NAR in chunks, then decides whether its contents match the address. */
export interface ContentsCheck {
  update(bytes: Buffer): void;
  /** Ends the check and returns its result. Nothing may be written after it. */
  fits(): boolean;
}

/**
 * Makes the check for a narinfo. Returns undefined if it has no content address, or if it addresses a git tree, which
 * only Nix can check.
 */
export function contentsCheckOf(info: Pick<NarInfo, 'storePath' | 'ca'>): ContentsCheck | undefined {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  if (address === undefined || address.method === 'git') return undefined;
  const { method, algorithm, digest } = address;
  const plain = new ModuloHash(createHash(algorithm), method === 'text' ? undefined : storeHashOf(info.storePath));
  const contents = method === 'nar' ? plain : new FileContents(plain);
  return {
    update: (bytes) => contents.update(bytes),
    fits: () => contents.digest()?.equals(digest) === true,
  };
}

/** Turns bytes into a digest. The digest is undefined if the bytes have the wrong form. */
interface Digester {
  update(bytes: Buffer): void;
  digest(): Buffer | undefined;
}

/**
 * Hashes bytes with the path's own hash part replaced by zeros, followed by the offsets of the replaced parts. So a
 * path that refers to itself can be addressed by its contents.
 */
class ModuloHash implements Digester {
  readonly #hash: Hash;
  readonly #own: Buffer | undefined;
  readonly #places: number[] = [];
  /** The last bytes so far: the hash part may begin in them. */
  #rest: Buffer = Buffer.alloc(0);
  #offset = 0;

  /** @param own the hash part to replace. Undefined: replaces nothing. */
  constructor(hash: Hash, own: string | undefined) {
    this.#hash = hash;
    this.#own = own === undefined ? undefined : Buffer.from(own, 'latin1');
  }

  update(bytes: Buffer): void {
    if (this.#own === undefined) return void this.#hash.update(bytes);
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let done = 0;
    for (let at = all.indexOf(this.#own); at !== -1; at = all.indexOf(this.#own, done)) {
      this.#hash.update(all.subarray(done, at)).update(Buffer.alloc(this.#own.length));
      this.#places.push(this.#offset + at);
      done = at + this.#own.length;
    }
    const end = Math.max(done, all.length - this.#own.length + 1);
    this.#hash.update(all.subarray(done, end));
    this.#rest = Buffer.from(all.subarray(end));
    this.#offset += end;
  }

  digest(): Buffer {
    this.#hash.update(this.#rest);
    for (const place of this.#places) this.#hash.update(`|${place}`);
    return this.#hash.digest();
  }
}

/** Extracts the contents of a NAR that holds one file. */
class FileContents implements Digester {
  static readonly #starts = [['contents'], ['executable', '', 'contents']].map((words) =>
    Buffer.concat(['nix-archive-1', '(', 'type', 'regular', ...words].map(encodeString)),
  );
  static readonly #end = encodeString(')');
  static readonly #longest = Math.max(...FileContents.#starts.map(({ length }) => length));

  readonly #inner: Digester;
  /** The bytes before the contents; after the contents, the bytes that follow them. */
  #around: Buffer = Buffer.alloc(0);
  /** Bytes of the contents still to come. Undefined until their length is known. */
  #left: number | undefined;
  #paddingBytes = 0;

  constructor(inner: Digester) {
    this.#inner = inner;
  }

  update(bytes: Buffer): void {
    if (this.#left === undefined) {
      this.#around = Buffer.concat([this.#around, bytes]);
      const start = FileContents.#starts.find((one) => this.#around.subarray(0, one.length).equals(one));
      if (start === undefined || this.#around.length < start.length + 8) {
        if (this.#around.length > FileContents.#longest + 8) this.#left = Infinity; // not a NAR of one file
        return;
      }
      const length = Number(this.#around.readBigUInt64LE(start.length));
      const rest = this.#around.subarray(start.length + 8);
      this.#left = length;
      this.#paddingBytes = (8 - (length % 8)) % 8;
      this.#around = Buffer.alloc(0);
      return this.update(rest);
    }
    const own = bytes.subarray(0, Math.min(this.#left, bytes.length));
    if (own.length > 0 && this.#left !== Infinity) this.#inner.update(own);
    this.#left -= own.length;
    const after = bytes.subarray(own.length);
    // One byte more than a valid end is enough to know that it is wrong.
    if (after.length > 0 && this.#around.length < FileContents.#longest)
      this.#around = Buffer.concat([this.#around, after.subarray(0, FileContents.#longest)]);
  }

  digest(): Buffer | undefined {
    const end = Buffer.concat([Buffer.alloc(this.#paddingBytes), FileContents.#end]);
    return this.#left === 0 && this.#around.equals(end) ? this.#inner.digest() : undefined;
  }
}
