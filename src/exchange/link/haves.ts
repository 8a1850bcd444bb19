import type { FileHash } from '../../nix/brands.ts';
import { MAX_PREFIXES_PER_MESSAGE, MAX_WANTS } from '../../wire/bounds.ts';
import type { AskingMessage, FilePrefix } from '../messages/messages.ts';
import { PieceSet } from '../messages/piece-set.ts';
import type { Wanted, WantedFiles } from './wanted.ts';

/**
 * Fewest files in one question, unless they are the last: a question for each file that arrives would cost too much.
 */
const MIN_ASKED = 1024;

/** Time for which files that are no longer wanted are gathered: a message for each would cost both sides too much. */
const GATHER_MS = 25;

/** The wanted files and pieces that one member has. It is asked in batches, and later reports new ones. */
export class Haves {
  readonly #wanted: WantedFiles;
  readonly #send: (message: AskingMessage) => void;
  readonly #whole = new Set<FileHash>();
  readonly #partial = new Map<FileHash, PieceSet>();
  /** Files of each question that it has not answered yet, by the number of the question. */
  readonly #batches = new Map<number, readonly FileHash[]>();
  /** Files that it was asked about, and files that it will be asked about once these are fewer. */
  readonly #asked = new Set<FileHash>();
  readonly #later = new Map<FileHash, Wanted>();
  /** Files that it was asked about, and that are no longer wanted. It does not know that yet. */
  readonly #unwanted: FilePrefix[] = [];
  #nextBatch = 1;

  constructor(wanted: WantedFiles, send: (message: AskingMessage) => void) {
    this.#wanted = wanted;
    this.#send = send;
  }

  get isKnown(): boolean {
    return this.#batches.size === 0 && this.#later.size === 0;
  }

  /** True if its answers so far name no file that we want. */
  get isEmpty(): boolean {
    return this.#whole.size === 0 && this.#partial.size === 0;
  }

  get(file: FileHash): 'whole' | PieceSet | undefined {
    return this.#whole.has(file) ? 'whole' : this.#partial.get(file);
  }

  want(files: readonly Wanted[]): void {
    for (const one of files) this.#later.set(one.file, one);
    this.#ask();
  }

  unwant(files: readonly Wanted[]): void {
    for (const { file, prefix } of files) {
      this.#whole.delete(file);
      this.#partial.delete(file);
      this.#later.delete(file);
      if (!this.#asked.delete(file)) continue;
      if (this.#unwanted.push(prefix) === 1) setTimeout(() => this.#tellUnwanted(), GATHER_MS).unref();
    }
    this.#ask();
  }

  /** Handles an answer. @returns the files that it has; undefined if there is no such question */
  onMap(batch: number, bitmap: Uint8Array): FileHash[] | undefined {
    const files = this.#batches.get(batch);
    if (files === undefined || bitmap.length !== Math.ceil(files.length / 8)) return undefined;
    this.#batches.delete(batch);
    const held = this.#take(files.filter((_, index) => ((bitmap[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0));
    this.#ask(); // answered files make room
    return held;
  }

  /** Handles news of whole files. @returns the new ones that are wanted */
  onHave(prefixes: readonly FilePrefix[]): FileHash[] {
    const held = this.#take(prefixes.flatMap((prefix) => this.#wanted.byPrefix(prefix)?.file ?? []));
    this.#ask();
    return held;
  }

  /**
   * Handles the pieces of a file. Ignores them if the file has another number of pieces here. Nobody signs a FileSize, so
   * an honest member may have learned another one.
   *
   * @returns the file if the pieces count
   */
  onPieces(prefix: FilePrefix, count: number, bitmap: Uint8Array): FileHash[] {
    const { file, sizeBytes } = this.#wanted.byPrefix(prefix) ?? {};
    if (file === undefined || sizeBytes === undefined || this.#whole.has(file)) return [];
    if (new PieceSet(sizeBytes).total !== count) {
      this.#partial.delete(file);
      return [];
    }
    this.#partial.set(file, new PieceSet(sizeBytes, Uint8Array.from(bitmap)));
    return [file];
  }

  /** Handles news of a piece, as {@link onPieces} does. @returns the file if the piece is new */
  onPiece(prefix: FilePrefix, index: number): FileHash[] {
    const { file, sizeBytes } = this.#wanted.byPrefix(prefix) ?? {};
    if (file === undefined || sizeBytes === undefined || this.#whole.has(file)) return [];
    const pieces = this.#partial.get(file) ?? new PieceSet(sizeBytes);
    if (index >= pieces.total || pieces.has(index)) return [];
    pieces.add(index);
    this.#partial.set(file, pieces);
    return [file];
  }

  #take(files: readonly FileHash[]): FileHash[] {
    const news = files.filter((file) => this.#wanted.get(file) !== undefined && !this.#whole.has(file));
    for (const file of files) this.#asked.delete(file); // the other side forgets them, too
    for (const file of news) {
      this.#whole.add(file);
      this.#partial.delete(file);
    }
    return news;
  }

  #tellUnwanted(): void {
    const prefixes = this.#unwanted.splice(0);
    for (let at = 0; at < prefixes.length; at += MAX_PREFIXES_PER_MESSAGE)
      this.#send({ kind: 'unwant', prefixes: prefixes.slice(at, at + MAX_PREFIXES_PER_MESSAGE) });
  }

  #ask(): void {
    while (this.#later.size > 0) {
      const room = Math.min(MAX_PREFIXES_PER_MESSAGE, MAX_WANTS - this.#asked.size);
      if (room < Math.min(MIN_ASKED, this.#later.size)) return;
      this.#tellUnwanted(); // it would forget those that are wanted again, and has no room for more
      const files: Wanted[] = [];
      for (const one of this.#later.values()) {
        if (files.length === room) break;
        files.push(one);
        this.#later.delete(one.file);
        this.#asked.add(one.file);
      }
      const batch = this.#nextBatch++;
      this.#batches.set(
        batch,
        files.map(({ file }) => file),
      );
      this.#send({ kind: 'want', batch, prefixes: files.map(({ prefix }) => prefix) });
    }
  }
}
