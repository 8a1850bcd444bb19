import { hostOf } from '../../discovery/endpoint.ts';
import type { FetchEvent } from '../../fetch/events.ts';
import type { FileHash, StorePath } from '../../nix/brands.ts';

/** Limit on NARs whose senders are remembered. */
const MOST = 1_000;

/** A NAR that is arriving. */
export interface ArrivingNar {
  readonly path: StorePath;
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  readonly heldBytes: number;
}

/** A NAR that is arriving, with its senders. */
export interface NarInFlight extends ArrivingNar {
  /** Hosts of peers, and addresses of caches, those that sent most first. Empty before the first byte. */
  readonly from: readonly string[];
}

/** Records the senders of the NARs that are arriving. */
export class InFlight {
  /** Bytes by sender, by the name of the NAR. */
  readonly #senders = new Map<string, Map<string, number>>();

  readonly take = (event: FetchEvent): void => {
    if (event.type === 'nar-fetched') this.#senders.delete(event.nar);
    if (event.type !== 'nar-bytes') return;
    const { nar, source, origin, bytes } = event;
    const sender = source === 'peers' ? hostOf(origin) : origin;
    const senders = this.#senders.get(nar) ?? new Map<string, number>();
    senders.set(sender, (senders.get(sender) ?? 0) + bytes);
    this.#senders.set(nar, senders);
    for (const oldest of this.#senders.keys()) {
      if (this.#senders.size <= MOST) break;
      this.#senders.delete(oldest);
    }
  };

  /** Adds the senders to NARs that are arriving, the largest first. */
  of(arriving: Iterable<ArrivingNar>): NarInFlight[] {
    const withSenders = Array.from(arriving, (nar): NarInFlight => {
      const senders = [...(this.#senders.get(nar.fileHash) ?? [])].toSorted(([, a], [, b]) => b - a);
      return { ...nar, from: senders.map(([sender]) => sender) };
    });
    return withSenders.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
  }
}
