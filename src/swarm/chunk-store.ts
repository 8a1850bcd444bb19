import { closeSync, readv } from 'node:fs';
import { promisify } from 'node:util';
import { openToRead } from '../disk/read-small.ts';

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
  /** Fills the targets, one after another, with the bytes from `offset` on. Rejects if they are not here. */
  read(targets: readonly Uint8Array[], offset: number): Promise<void>;
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
      const bytes = Buffer.allocUnsafe(wanted);
      storage.read([bytes], start).then(
        () => reply?.(null, bytes),
        (error: Error) => reply?.(error, new Uint8Array()),
      );
    },
    put: (index, bytes, done) => settle(storage.write(index, bytes), done),
    close: (done) => settle(storage.close(), done),
    destroy: (done) => settle(storage.close(), done),
  };
}

/** One file of a torrent, on disk. */
export interface SeedFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** A file at its place in the torrent. */
type PlacedFile = SeedFile & { readonly start: number };

const readEach = promisify(readv);

/**
 * Storage over finished files. Opens them read-only when the first byte is requested, and closes them with the torrent.
 */
export class SeedStorage implements PieceStorage {
  readonly #files: readonly PlacedFile[];
  readonly #open = new Map<string, number>();
  #isClosed = false;
  #reading = 0;

  constructor(files: readonly SeedFile[]) {
    let start = 0;
    this.#files = files.map((file) => {
      const placed = { ...file, start };
      start += file.sizeBytes;
      return placed;
    });
  }

  async read(targets: readonly Uint8Array[], offset: number): Promise<void> {
    const end = targets.reduce((sum, { length }) => sum + length, offset);
    const whole = this.#files.find(({ start, sizeBytes }) => start <= offset && end <= start + sizeBytes);
    if (whole !== undefined) return this.#read(whole, targets, offset);
    let at = offset;
    for (const target of targets) {
      for (const file of this.#files) {
        const from = Math.max(at, file.start);
        const to = Math.min(at + target.length, file.start + file.sizeBytes);
        if (from < to) await this.#read(file, [target.subarray(from - at, to - at)], from);
      }
      at += target.length;
    }
  }

  write(): Promise<void> {
    return Promise.reject(new Error('a seed is read-only'));
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#closeUnused();
    return Promise.resolve();
  }

  /** Fills the targets with the bytes of the torrent from `offset` on. All of them are in one file. */
  async #read(file: PlacedFile, targets: readonly Uint8Array[], offset: number): Promise<void> {
    const fd = this.#fdOf(file.path);
    const wanted = targets.reduce((sum, { length }) => sum + length, 0);
    this.#reading++;
    try {
      const { bytesRead } = await readEach(fd, targets, offset - file.start);
      if (bytesRead !== wanted) throw new Error(`${file.path} is shorter than its torrent says`);
    } finally {
      this.#reading--;
      this.#closeUnused();
    }
  }

  #fdOf(path: string): number {
    if (this.#isClosed) throw new Error('the seed was closed');
    const fd = this.#open.get(path) ?? openToRead(path);
    this.#open.set(path, fd);
    return fd;
  }

  /** Closes the files once the seed is closed and no thread reads them. */
  #closeUnused(): void {
    if (!this.#isClosed || this.#reading > 0) return;
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }
}

/** Storage in memory, for the hash map's torrent, of which only a few shards are fetched. */
export class MemoryStorage implements PieceStorage {
  readonly #pieces = new Map<number, Uint8Array>();
  readonly #pieceLength: number;

  constructor(pieceLength: number) {
    this.#pieceLength = pieceLength;
  }

  async read(targets: readonly Uint8Array[], offset: number): Promise<void> {
    let at = offset;
    for (const target of targets) {
      for (let done = 0; done < target.length;) {
        const index = Math.floor(at / this.#pieceLength);
        const piece = this.#pieces.get(index);
        if (piece === undefined) throw new Error(`piece ${index} is not there`);
        const from = at - index * this.#pieceLength;
        const part = piece.subarray(from, from + target.length - done);
        if (part.length === 0) throw new Error(`piece ${index} is shorter`);
        target.set(part, done);
        done += part.length;
        at += part.length;
      }
    }
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
