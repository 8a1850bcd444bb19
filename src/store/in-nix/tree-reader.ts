import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { readFully } from '../../disk/read-small.ts';
import { absolute, hasStoreTime } from './map-tree.ts';
import type { MappedFile, NarMap } from './nar-map.ts';

/** Files that are read at the same time for one range. */
const AT_ONCE = 8;
/** Bytes that are read at a time if the whole NAR is read. */
const READ_BYTES = 1024 * 1024;

/**
 * Reads any range of a NAR from the path in the Nix store that it would be dumped from. A file that was changed or
 * removed makes the read fail, so wrong bytes are not sent knowingly.
 */
export class TreeReader {
  readonly map: NarMap;
  readonly #root: Buffer;

  /** @param root absolute path of the tree */
  constructor(root: string, map: NarMap) {
    this.#root = Buffer.from(root);
    this.map = map;
  }

  /**
   * Fills `target` with the bytes of the NAR from `offset` on.
   *
   * @throws RangeError if the NAR is shorter, or if a file has changed; the system's error
   */
  async read(target: Uint8Array, offset: number): Promise<void> {
    const reads: (() => Promise<void>)[] = [];
    for (const stretch of this.map.stretches(offset, target.length)) {
      if ('bytes' in stretch) {
        target.set(stretch.bytes, stretch.at);
        continue;
      }
      const { file, at, from, length } = stretch;
      reads.push(() => this.#readFile(file, target.subarray(at, at + length), from));
    }
    const rest = reads.values();
    const lane = async (): Promise<void> => {
      for (const read of rest) await read();
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, reads.length) }, lane));
  }

  /** Yields the whole NAR, each part in a buffer of its own. @throws as {@link read} */
  async *all(): AsyncGenerator<Buffer, void> {
    const { narSize } = this.map;
    for (let at = 0; at < narSize; at += READ_BYTES) {
      const part = Buffer.allocUnsafe(Math.min(READ_BYTES, narSize - at));
      await this.read(part, at);
      yield part;
    }
  }

  /** Opens and closes synchronously, since the system does that from memory. Reads in another thread. */
  async #readFile({ path, sizeBytes }: MappedFile, target: Uint8Array, offset: number): Promise<void> {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
    const fd = openSync(absolute(this.#root, path), flags);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile() || stats.size !== sizeBytes || !hasStoreTime(stats)) throw changed();
      if ((await readFully(fd, target, offset)) < target.length) throw changed();
    } finally {
      closeSync(fd);
    }
  }
}

function changed(): RangeError {
  return new RangeError('a file of the Nix store has changed');
}
