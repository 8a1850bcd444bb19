import { freeBytesAt } from '../disk/free-bytes.ts';
import type { NarInfo } from '../nix/narinfo.ts';

/** Age at which the free space is looked up again. Nix asks for many paths at once. */
const KNOWN_MS = 1_000;

/** The free space on the disk of a folder, as it was a moment ago. */
export class Room {
  readonly #folder: string;
  #freeBytes: Promise<number | undefined> | undefined;
  #askedAtMs = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Returns true if the file of a narinfo fits on the disk, as far as that is known. Never throws. */
  async isFor({ fileSize, narSize }: Pick<NarInfo, 'fileSize' | 'narSize'>): Promise<boolean> {
    const now = performance.now();
    if (this.#freeBytes === undefined || now - this.#askedAtMs > KNOWN_MS) {
      this.#askedAtMs = now;
      this.#freeBytes = freeBytesAt(this.#folder).catch(() => undefined);
    }
    const freeBytes = await this.#freeBytes;
    return freeBytes === undefined || (fileSize ?? narSize) <= freeBytes;
  }
}
