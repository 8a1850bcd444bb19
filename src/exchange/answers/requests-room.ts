import { hostKeyOf } from '../../wire/address-range.ts';
import { MAX_ALL_WAITING_REQUEST_BYTES, MAX_HOST_WAITING_REQUEST_BYTES } from '../../wire/bounds.ts';

/** The memory of the waiting requests of one host. */
export interface HostRequestsRoom {
  /** True if only few requests of each member at this host may wait. */
  readonly isShort: boolean;
  /** Adds bytes to the count. A negative number removes them. */
  readonly count: (bytes: number) => void;
}

/** Counts the memory of the waiting requests of all members, and of each host. */
export class RequestsRoom {
  #usedBytes = 0;
  readonly #hosts = new Map<string, number>();

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Returns the share of a host in this count. */
  of(host: string): HostRequestsRoom {
    const key = hostKeyOf(host);
    const isShort = (): boolean => this.#isShort(key);
    return {
      get isShort() {
        return isShort();
      },
      count: (bytes) => this.#count(key, bytes),
    };
  }

  #isShort(key: string): boolean {
    if (this.#usedBytes >= MAX_ALL_WAITING_REQUEST_BYTES) return true;
    return (this.#hosts.get(key) ?? 0) >= MAX_HOST_WAITING_REQUEST_BYTES;
  }

  #count(key: string, bytes: number): void {
    this.#usedBytes += bytes;
    const own = (this.#hosts.get(key) ?? 0) + bytes;
    if (own > 0) this.#hosts.set(key, own);
    else this.#hosts.delete(key);
  }
}
