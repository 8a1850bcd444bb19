import { EventEmitter, once } from 'node:events';
import { parseEndpoint } from '../../discovery/endpoint.ts';
import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { Edition } from '../../exchange/messages/messages.ts';
import type { Members } from '../../exchange/members.ts';
import type { InfoHash } from '../../nix/brands.ts';
import { hostKeyOf } from '../../wire/address-range.ts';
import { withinMs } from '../../within.ts';

/** Time without a new claim after which a claim whose reading has failed is taken again. */
const AGAIN_MS = 1_000;
/** Time for a member to send its edition before the next one is asked, too. */
const HEDGE_MS = 1_000;
/** Limit on remembered claims, one per member, and on hosts with unproven claims. */
const MAX_CLAIMS = 256;
/** Limit on editions with the number of ours that are read. */
const MAX_COMPARED = 4;
/** A host is no longer believed after this number of claims that were not proven. */
const MAX_FALSE_CLAIMS = 2;

/** An edition that a member claims to hold. It may be wrong: the manifest decides. */
export interface EditionClaim {
  readonly teller: PeerRecord;
  readonly seq: number;
  readonly infoHash: InfoHash;
}

/**
 * Collects which newer editions of one hash map members claim to hold: the last claim of each member. A claim costs a
 * second at most, and a host is not believed after two false ones, over whichever connection.
 */
export class EditionClaims {
  /** The edition that is here; 0 for none. */
  #seq: number;
  /** Its infohash. An edition with the same number and another infohash is read, too: it may prove a second history. */
  #infoHash: InfoHash | undefined;
  /** Infohashes of those that were read. */
  readonly #compared = new Set<InfoHash>();
  readonly #claims = new Map<PeerRecord, Edition>();
  /** Claims whose reading has failed. */
  readonly #failed = new Map<PeerRecord, Edition>();
  /** Unproven claims by host: a liar that connects again has a new record. The latest host is last. */
  readonly #unproven = new Map<string, number>();
  readonly #news = new EventEmitter<{ news: [] }>();

  /** @param seq the edition that is here; 0 for none. Older ones, and the same one, are ignored */
  constructor(seq = 0) {
    this.#seq = seq;
  }

  /** Notes the claims that connected members have made, and those that they make until the result is disposed. */
  listen(members: Pick<Members, 'on' | 'off' | 'editionsOf'>, group: InfoHash): Disposable {
    const onEdition = ({ peer }: { readonly peer: PeerRecord }, edition: Edition): void => {
      if (edition.group === group) this.note(peer, edition);
    };
    for (const [peer, edition] of members.editionsOf(group)) this.note(peer, edition);
    members.on('edition', onEdition);
    return { [Symbol.dispose]: () => void members.off('edition', onEdition) };
  }

  /** Notes that a member claims to hold an edition of the hash map. */
  note(teller: PeerRecord, edition: Edition): void {
    if (!this.#isOfUse(edition)) return;
    const [oldest] = this.#claims.keys();
    if (oldest !== undefined && this.#claims.size >= MAX_CLAIMS) this.#claims.delete(oldest);
    this.#failed.delete(teller);
    this.#claims.set(teller, edition);
    this.#news.emit('news');
  }

  /** Forgets claims of this edition and of older ones: it is here. */
  hold(seq: number, infoHash?: InfoHash): void {
    if (seq < this.#seq) return;
    if (seq > this.#seq) this.#compared.clear();
    this.#seq = seq;
    this.#infoHash = infoHash;
  }

  /**
   * Reads the claimed editions, the newest first, until the signal aborts. A member that sends nothing keeps no other
   * waiting.
   *
   * @param read returns true if the claim was right. Must not reject
   * @param isReady the next claim is not taken before it resolves. Default: at once
   * @throws the signal's reason
   */
  async readEach(
    read: (claim: EditionClaim) => Promise<boolean>,
    signal: AbortSignal,
    isReady: () => Promise<unknown> = () => Promise.resolve(),
  ): Promise<never> {
    for (;;) {
      const claim = await this.#take(signal);
      await withinMs(HEDGE_MS, this.#read(claim, read));
      await isReady();
    }
  }

  async #read([teller, edition]: Claim, read: (claim: EditionClaim) => Promise<boolean>): Promise<void> {
    const isRight = await read({ teller, seq: edition.seq, infoHash: edition.infoHash });
    if (isRight && edition.seq === this.#seq) this.#compared.add(edition.infoHash);
    if (isRight) this.#unproven.delete(hostKey(teller));
    else if (!this.#claims.has(teller)) {
      this.#failed.set(teller, edition);
      this.#news.emit('news');
    }
  }

  /**
   * Takes the claim of the newest edition. Waits for one. A claim whose reading has failed comes back after a second
   * without a new one: its teller may have been slow.
   */
  async #take(signal: AbortSignal): Promise<Claim> {
    for (;;) {
      const claim = this.#newest();
      if (claim !== undefined) {
        this.#claims.delete(claim[0]);
        this.#countUnproven(hostKey(claim[0]));
        return claim;
      }
      const [oldest] = this.#failed;
      const ends = oldest === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(AGAIN_MS)]);
      const hasNews = await once(this.#news, 'news', { signal: ends }).catch(() => signal.throwIfAborted());
      if (hasNews !== undefined || oldest === undefined) continue;
      this.#failed.delete(oldest[0]);
      this.#claims.set(...oldest);
    }
  }

  /** Returns the credible claim of the newest edition. Forgets useless claims. */
  #newest(): Claim | undefined {
    for (const [teller, edition] of this.#claims) {
      const isFalse = (this.#unproven.get(hostKey(teller)) ?? 0) >= MAX_FALSE_CLAIMS;
      if (isFalse || !this.#isOfUse(edition)) this.#claims.delete(teller);
    }
    return [...this.#claims].toSorted(([, a], [, b]) => b.seq - a.seq)[0];
  }

  /** Returns true for a newer edition, and for another one with the number of ours. */
  #isOfUse({ seq, infoHash }: Edition): boolean {
    if (seq !== this.#seq || this.#infoHash === undefined) return seq > this.#seq;
    return infoHash !== this.#infoHash && !this.#compared.has(infoHash) && this.#compared.size < MAX_COMPARED;
  }

  #countUnproven(host: string): void {
    const claims = (this.#unproven.get(host) ?? 0) + 1;
    this.#unproven.delete(host);
    const [oldest] = this.#unproven.keys();
    if (oldest !== undefined && this.#unproven.size >= MAX_CLAIMS) this.#unproven.delete(oldest);
    this.#unproven.set(host, claims);
  }
}

type Claim = [teller: PeerRecord, edition: Edition];

/** Returns the key under which the claims of a peer's host are counted. */
function hostKey({ address }: PeerRecord): string {
  return hostKeyOf(parseEndpoint(address).host);
}
