import { hash } from 'node:crypto';
import type { InfoHash } from '../nix/brands.ts';

/** How soon a list that may be long is asked for again. */
const LOOK_AGAIN_MS = 1_000;

/** Finds an infohash by what an encrypted connection says of it: SHA-1 of `req2` and itself. */
export class SkeyTable {
  readonly #list: () => Iterable<InfoHash>;
  readonly #byHashed = new Map<string, InfoHash>();
  readonly #known = new Set<InfoHash>();
  #lookedAtMs = -Infinity;

  /** @param list what is open or may be served now; asked for when somebody comes encrypted, once a second at most */
  constructor(list: () => Iterable<InfoHash>) {
    this.#list = list;
  }

  /** @param hashed in hex */
  find(hashed: string): InfoHash | undefined {
    const now = performance.now();
    if (!this.#byHashed.has(hashed) && now - this.#lookedAtMs >= LOOK_AGAIN_MS) {
      this.#lookedAtMs = now;
      for (const infoHash of this.#list()) this.#add(infoHash);
    }
    return this.#byHashed.get(hashed);
  }

  #add(infoHash: InfoHash): void {
    if (this.#known.has(infoHash)) return;
    this.#known.add(infoHash);
    this.#byHashed.set(hash('sha1', Buffer.concat([Buffer.from('req2'), Buffer.from(infoHash, 'hex')])), infoHash);
  }
}
