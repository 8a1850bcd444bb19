import { hash } from 'node:crypto';
import type { InfoHash } from '../nix/brands.ts';

/** Interval at which the list is read again, since it may be long. */
const LOOK_AGAIN_MS = 1_000;

/** Finds the infohash that an encrypted connection names by the SHA-1 of `req2` and the infohash. */
export class SkeyTable {
  readonly #list: () => Iterable<InfoHash>;
  readonly #byHashed = new Map<string, InfoHash>();
  #lookedAtMs = -Infinity;

  /**
   * @param list returns the infohashes that are open or may be served. Called for encrypted peers, at most once a
   *   second
   */
  constructor(list: () => Iterable<InfoHash>) {
    this.#list = list;
  }

  /** Returns the infohash. @param hashed the hash in hex */
  find(hashed: string): InfoHash | undefined {
    const now = performance.now();
    if (!this.#byHashed.has(hashed) && now - this.#lookedAtMs >= LOOK_AGAIN_MS) {
      this.#lookedAtMs = now;
      this.#readList();
    }
    return this.#byHashed.get(hashed);
  }

  /** Adds the new infohashes, and forgets those that are gone. */
  #readList(): void {
    const listed = new Set(this.#list());
    for (const [hashed, infoHash] of this.#byHashed) if (!listed.delete(infoHash)) this.#byHashed.delete(hashed);
    for (const infoHash of listed) this.#byHashed.set(hashedOf(infoHash), infoHash);
  }
}

/** Returns the hash by which a peer names an infohash, in hex. */
function hashedOf(infoHash: InfoHash): string {
  return hash('sha1', Buffer.concat([Buffer.from('req2'), Buffer.from(infoHash, 'hex')]));
}
