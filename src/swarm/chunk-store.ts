import { open, type FileHandle } from 'node:fs/promises';
import { giveBack, isLendingMuch, lend, takeBuffer } from '../bytes/lent-buffers.ts';

type Callback<T extends unknown[]> = (error: Error | null, ...rest: T) => void;
type GetOptions = { offset?: number; length?: number } | null | undefined;

/** The storage of pieces as WebTorrent uses it (the abstract-chunk-store interface). */
export interface ChunkStore {
  readonly chunkLength: number;
  get(index: number, options: GetOptions | Callback<[Uint8Array]>, done?: Callback<[Uint8Array]>): void;
  put(index: number, bytes: Uint8Array, done: Callback<[]>): void;
  close(done: Callback<[]>): void;
  destroy(done: Callback<[]>): void;
}

/** The part of a chunk store that differs: access to bytes by their place in the torrent. */
export interface PieceStorage {
  read(offset: number, length: number): Promise<Uint8Array>;
  /**
   * Writes a piece. The storage takes over the bytes of a torrent's only piece. With several pieces, the bytes are
   * overwritten after this resolves: a storage that keeps them must copy them.
   */
  write(index: number, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Turns storage with promises into one with the callbacks that WebTorrent expects. */
export function chunkStore(chunkLength: number, totalBytes: number, storage: PieceStorage): ChunkStore {
  const settle = (work: Promise<void>, done: Callback<[]> = () => undefined): void => {
    work.then(() => done(null), done);
  };
  return {
    chunkLength,
    get(index, options, done) {
      const reply = typeof options === 'function' ? options : done;
      const { offset = 0, length } = (typeof options === 'function' ? undefined : options) ?? {};
      const start = index * chunkLength + offset;
      const wanted = length ?? Math.min(chunkLength - offset, totalBytes - start);
      // A peer names these numbers. WebTorrent even passes on the index -1.
      const isInPiece = index >= 0 && offset >= 0 && wanted > 0 && offset + wanted <= chunkLength;
      if (!isInPiece || start + wanted > totalBytes) {
        reply?.(new Error(`${wanted} bytes at ${offset} are outside piece ${index}`), new Uint8Array());
        return;
      }
      storage.read(start, wanted).then(
        (bytes) => reply?.(null, bytes),
        (error: Error) => reply?.(error, new Uint8Array()),
      );
    },
    put: (index, bytes, done) => settle(storage.write(index, bytes), done),
    close: (done) => settle(storage.close(), done),
    destroy: (done) => settle(storage.close(), done),
  };
}

/** Bytes of a seed that are read at a time: the longest piece of a NAR. */
const READ_AHEAD_BYTES = 1024 * 1024;

/** One file of a torrent, on disk. */
export interface SeedFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Storage over finished files. Opens them read-only when the first byte is requested, and closes them with the torrent.
 */
export class SeedStorage implements PieceStorage {
  readonly #files: readonly (SeedFile & { readonly start: number })[];
  readonly #totalBytes: number;
  readonly #handles = new Map<string, Promise<FileHandle>>();
  #ahead: { readonly start: number; readonly buffer: Buffer; readonly done: Promise<void> } | undefined;

  constructor(files: readonly SeedFile[]) {
    let start = 0;
    this.#files = files.map((file) => {
      const placed = { ...file, start };
      start += file.sizeBytes;
      return placed;
    });
    this.#totalBytes = start;
  }

  /**
   * Reads a range, and the megabyte around it: peers ask for 16 KiB at a time, in order. Keeps the last megabyte, where
   * a second peer that follows the first finds its bytes. Returns a lent buffer (lent-buffers.ts). While too much of
   * these is in use, reads only the range itself.
   */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const start = offset - (offset % READ_AHEAD_BYTES);
    const isAhead = this.#ahead?.start === start;
    if (offset + length > start + READ_AHEAD_BYTES || (!isAhead && isLendingMuch())) {
      const bytes = Buffer.allocUnsafe(length);
      await this.#readFiles(offset, bytes);
      return bytes;
    }
    if (!isAhead) {
      this.#dropAhead();
      const bytes = Math.min(READ_AHEAD_BYTES, this.#totalBytes - start);
      const buffer = takeBuffer(bytes);
      this.#ahead = { start, buffer, done: this.#readFiles(start, buffer.subarray(0, bytes)) };
    }
    const { buffer, done } = this.#ahead!;
    lend(buffer); // before the first await: the next reader may drop it
    try {
      await done;
    } catch (error) {
      if (this.#ahead?.buffer === buffer) this.#ahead = undefined; // the next reader tries again
      throw error;
    }
    return buffer.subarray(offset - start, offset - start + length);
  }

  /** Gives back the buffer that was read ahead, once reading into it has ended. */
  #dropAhead(): void {
    const { buffer, done } = this.#ahead ?? {};
    this.#ahead = undefined;
    if (buffer !== undefined)
      done?.then(
        () => giveBack(buffer),
        () => undefined,
      );
  }

  async #readFiles(offset: number, bytes: Buffer): Promise<void> {
    const { length } = bytes;
    for (const file of this.#files) {
      const from = Math.max(offset, file.start);
      const to = Math.min(offset + length, file.start + file.sizeBytes);
      if (from >= to) continue;
      const handle = await this.#open(file.path);
      const { bytesRead } = await handle.read(bytes, from - offset, to - from, from - file.start);
      if (bytesRead !== to - from) throw new Error(`${file.path} is shorter than its torrent says`);
    }
  }

  write(): Promise<void> {
    return Promise.reject(new Error('a seed is read-only'));
  }

  async close(): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    this.#dropAhead();
    for (const handle of handles) await handle.then((opened) => opened.close()).catch(() => undefined);
  }

  #open(path: string): Promise<FileHandle> {
    let handle = this.#handles.get(path);
    if (handle === undefined) {
      handle = open(path, 'r');
      handle.catch(() => this.#handles.delete(path));
      this.#handles.set(path, handle);
    }
    return handle;
  }
}

/** Storage in memory, for the hash map's torrent, of which only a few shards are fetched. */
export class MemoryStorage implements PieceStorage {
  readonly #pieces = new Map<number, Uint8Array>();
  readonly #pieceLength: number;

  constructor(pieceLength: number) {
    this.#pieceLength = pieceLength;
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.alloc(length);
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / this.#pieceLength);
      const piece = this.#pieces.get(index);
      if (piece === undefined) return Promise.reject(new Error(`piece ${index} is not there`));
      const start = index * this.#pieceLength;
      const part = piece.subarray(at - start, Math.min(piece.length, offset + length - start));
      bytes.set(part, at - offset);
      at += part.length;
    }
    return Promise.resolve(bytes);
  }

  write(index: number, bytes: Uint8Array): Promise<void> {
    this.#pieces.set(index, Uint8Array.from(bytes));
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#pieces.clear();
    return Promise.resolve();
  }
}
