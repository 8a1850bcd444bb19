import type { InfoHash } from '../../nix/brands.ts';
import type { Edition } from '../messages/messages.ts';

/** Limit on editions of hash maps that a member says it holds. */
const MAX_EDITIONS = 64;

/** The editions of hash maps that one member says it holds: the latest one of each group, and few groups. */
export class TheirEditions {
  readonly #editions = new Map<InfoHash, Edition>();

  /** Records an edition. If there are too many, forgets the one that was heard of least recently. */
  note(edition: Edition): void {
    this.#editions.delete(edition.group); // keeps the oldest first
    this.#editions.set(edition.group, edition);
    const [oldest] = this.#editions.keys();
    if (oldest !== undefined && this.#editions.size > MAX_EDITIONS) this.#editions.delete(oldest);
  }

  get(group: InfoHash): Edition | undefined {
    return this.#editions.get(group);
  }
}
