import { EventEmitter, once } from 'node:events';
import type { PeerRecord } from '../discovery/peer-table.ts';
import type { Edition } from '../exchange/messages.ts';
import type { Members } from '../exchange/members.ts';
import type { InfoHash } from '../nix/brands.ts';

/** Time without a new claim after which a claim is taken again. */
const AGAIN_MS = 1_000;

/** An edition that a member claims to hold. It may be wrong: the manifest decides. */
export interface EditionClaim {
  readonly teller: PeerRecord;
  readonly seq: number;
  readonly infoHash: InfoHash;
}

/** Collects which newer editions of one hash map connected members claim to hold: the last claim of each member. */
export class EditionClaims implements Disposable {
  readonly #members: Pick<Members, 'on' | 'off' | 'editionsOf'>;
  readonly #claims = new Map<PeerRecord, Edition>();
  readonly #taken = new Map<PeerRecord, Edition>();
  readonly #news = new EventEmitter<{ claim: [] }>();
  readonly #onEdition: (link: { readonly peer: PeerRecord }, edition: Edition) => void;

  /**
   * @param group the cohort of the hash map
   * @param seq the edition that is here; 0 for none. Older ones, and the same one, are ignored
   */
  constructor(members: Pick<Members, 'on' | 'off' | 'editionsOf'>, group: InfoHash, seq: number) {
    this.#members = members;
    this.#onEdition = ({ peer }, edition) => {
      if (edition.group !== group || edition.seq <= seq) return;
      this.#claims.set(peer, edition);
      this.#news.emit('claim');
    };
    for (const [peer, edition] of members.editionsOf(group)) this.#onEdition({ peer }, edition);
    members.on('edition', this.#onEdition);
  }

  /**
   * Takes the claim of the newest edition. Waits for one. A claim that was taken before comes back after a second
   * without a new one: its teller may have been slow.
   *
   * @throws the signal's reason
   */
  async take(signal: AbortSignal): Promise<EditionClaim> {
    for (;;) {
      const [newest] = [...this.#claims].toSorted(([, a], [, b]) => b.seq - a.seq);
      if (newest !== undefined) {
        const [teller, edition] = newest;
        this.#claims.delete(teller);
        this.#taken.delete(teller); // keeps the claim that was taken longest ago first
        this.#taken.set(teller, edition);
        return { teller, seq: edition.seq, infoHash: edition.infoHash };
      }
      const ends = AbortSignal.any([signal, AbortSignal.timeout(AGAIN_MS)]);
      await once(this.#news, 'claim', { signal: ends }).catch(() => signal.throwIfAborted());
      const [oldest] = this.#taken;
      if (this.#claims.size === 0 && oldest !== undefined) this.#claims.set(...oldest);
    }
  }

  [Symbol.dispose](): void {
    this.#members.off('edition', this.#onEdition);
  }
}
