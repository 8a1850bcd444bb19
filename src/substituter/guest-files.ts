import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { StoreOffer } from '../serve/store-offer.ts';

/** Limit on the noted files, about 100 bytes each: enough for a day of many machines. */
const MAX_FILES = 50_000;

/**
 * Decides which files of the store other machines may have. A FileHash is not signed: the narinfo of a shared path may
 * name the file of a private one. So the contents of a file must be those of the path, or it has come from others.
 */
export class GuestFiles {
  readonly #offer: Pick<StoreOffer, 'isProven'>;
  /** Files that have come from others since this process began, the latest ones. */
  readonly #came = new Set<FileHash>();

  constructor(offer: Pick<StoreOffer, 'isProven'>) {
    this.#offer = offer;
  }

  /** Notes a file that has come from others. */
  note(file: FileHash): void {
    this.#came.delete(file);
    this.#came.add(file);
    for (const oldest of this.#came) {
      if (this.#came.size <= MAX_FILES) return;
      this.#came.delete(oldest);
    }
  }

  /** @param info of a shared path, which names the file */
  async mayHave(info: NarInfo | undefined, file: FileHash): Promise<boolean> {
    return this.#came.has(file) || (info !== undefined && (await this.#offer.isProven(info)));
  }
}
