import { hostKeyOf } from '../../wire/address-range.ts';
import { MAX_ALL_WANTS, MAX_HOST_WANTS } from '../../wire/bounds.ts';

/** The wanted files that are remembered for the members of one host. */
export interface HostWantsRoom {
  /** Counts one more. Returns false if it must not be remembered. */
  readonly take: () => boolean;
  readonly giveBack: (count: number) => void;
}

/** Counts the wanted files that are remembered for all members, and for each host. */
export class WantsRoom {
  #taken = 0;
  readonly #hosts = new Map<string, number>();

  /** Returns the share of a host in this count. */
  of(host: string): HostWantsRoom {
    const key = hostKeyOf(host);
    return { take: () => this.#take(key), giveBack: (count) => this.#count(key, -count) };
  }

  #take(key: string): boolean {
    if (this.#taken >= MAX_ALL_WANTS || (this.#hosts.get(key) ?? 0) >= MAX_HOST_WANTS) return false;
    this.#count(key, 1);
    return true;
  }

  #count(key: string, change: number): void {
    this.#taken += change;
    const own = (this.#hosts.get(key) ?? 0) + change;
    if (own > 0) this.#hosts.set(key, own);
    else this.#hosts.delete(key);
  }
}
