import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf } from '../../nix/store-path.ts';

/** A path that is found, but not yet all that it reaches. */
interface Waiting {
  /** Number of its references that are not complete. */
  lacking: number;
  readonly onComplete: () => void;
}

/**
 * Finds out during a walk which paths are complete: all paths that they reach have been found. A path that refers to a
 * missing one never is.
 */
export class CompletePaths {
  readonly #complete = new Set<StoreHash>();
  readonly #waiting = new Map<StoreHash, Waiting>();
  readonly #referrers = new Map<StoreHash, StoreHash[]>();

  /**
   * Takes each narinfo that the walk finds, once.
   *
   * @param onComplete called as soon as the path is complete, which may be at once
   */
  take({ storePath, references }: NarInfo, onComplete: () => void): void {
    const hash = storeHashOf(storePath);
    const lacking = new Set(references.map((name) => parseStoreHash(name.slice(0, 32))));
    lacking.delete(hash);
    for (const reference of lacking) {
      if (this.#complete.has(reference)) lacking.delete(reference);
      else this.#noteReferrer(reference, hash);
    }
    this.#waiting.set(hash, { lacking: lacking.size, onComplete });
    if (lacking.size === 0) this.#completed(hash);
  }

  #noteReferrer(reference: StoreHash, referrer: StoreHash): void {
    const referrers = this.#referrers.get(reference);
    if (referrers === undefined) this.#referrers.set(reference, [referrer]);
    else referrers.push(referrer);
  }

  #completed(first: StoreHash): void {
    const hashes = [first];
    for (const hash of hashes) {
      this.#complete.add(hash);
      this.#waiting.get(hash)?.onComplete();
      this.#waiting.delete(hash);
      for (const referrer of this.#referrers.get(hash) ?? []) {
        const waiting = this.#waiting.get(referrer);
        if (waiting !== undefined && --waiting.lacking === 0) hashes.push(referrer);
      }
      this.#referrers.delete(hash);
    }
  }
}
