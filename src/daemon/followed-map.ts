import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { parseEndpoint } from '../discovery/endpoint.ts';
import type { PeerRecord } from '../discovery/peer-table.ts';
import type { Edition } from '../exchange/messages.ts';
import type { HttpClient } from '../http/client.ts';
import { saltBytes, type PublisherAddress } from '../index/address.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { seedEdition, type OfferedEditions } from '../index/editions.ts';
import type { Manifest } from '../index/manifest.ts';
import { NewerEdition } from './newer-edition.ts';
import { indexDirOf } from '../index/index-dir.ts';
import type { Resolved } from '../index/open-map.ts';
import { resolveHashMap, resolveNamed } from '../index/resolve.ts';
import { readKept, type Verified } from '../index/verified-manifest.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';
import type { Network } from '../swarm/network.ts';
import { asError, factsOf, type Warning, type Warn } from '../warning.ts';
import { hostKeyOf } from '../wire/address-range.ts';
import { withinMs } from '../within.ts';

/** Interval of requests for the manifest at a publisher's mirror. They cost almost nothing if it has not changed. */
const MIRROR_CHECK_MS = 60_000;
/** Interval of requests for the pointer in the DHT: about fifty packets each. */
const DHT_CHECK_MS = 5 * 60_000;
/** First pause before a map that was not found is looked up again. Doubles each time, up to the intervals above. */
const RETRY_MS = 10_000;
const RESOLVE_TIMEOUT_MS = 60_000;
const SHARD_TIMEOUT_MS = 60_000;
/** Time for a member to send the manifest that it named. */
const NAMED_TIMEOUT_MS = 10_000;
/** Limit on remembered claims, one per member, and on hosts with unproven claims. */
const MAX_CLAIMS = 256;
/** A host is no longer believed after this number of claims that were not proven. */
const MAX_FALSE_CLAIMS = 2;
/** Time for a member to send the manifest before the next one is asked, too. */
const HEDGE_MS = 1_000;
/** Interval of putting the DHT item again (BEP 44: nodes may drop it after two hours). */
const KEEP_ALIVE_MS = 30 * 60_000;

/** The parts of a daemon that following a hash map needs. */
export interface FollowContext {
  readonly store: FileStore;
  readonly network: Network;
  readonly http: HttpClient;
  /** Offers the editions that are complete here. */
  readonly maps: OfferedEditions;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** Called when an edition is complete here and offered. */
  readonly onEdition: (manifest: Manifest) => Promise<void>;
  /** Milliseconds between two questions for a newer edition. Default: a minute for a mirror, five for the DHT. */
  readonly checkMs?: number | undefined;
}

/**
 * Follows a hash map. Offers the edition that is here at once, and each newer one soon after it appears. Members of the
 * cohort tell of newer editions that they have; the publisher is also asked from time to time. Neither waits for the
 * other: a publisher may be silent for long.
 */
export class FollowedMap {
  readonly group: InfoHash;
  readonly address: PublisherAddress;
  readonly #context: FollowContext;
  readonly #newer: NewerEdition;
  readonly #checkMs: number;
  /** Unproven claims by host: a liar that connects again has a new record. The latest host is last. */
  readonly #unproven = new Map<string, number>();
  /** The edition that is here; 0 for none. */
  #seq = 0;
  readonly #stop = new AbortController();
  /** The last claim of each member. */
  readonly #claims = new Map<PeerRecord, Edition>();
  readonly #news = new EventEmitter<{ claim: [] }>();
  /** The edition that is being taken. Two at a time would overwrite each other's shards. */
  #taking: Promise<unknown> = Promise.resolve();
  #isFound = false;
  #misses = 0;
  /** The facts of the last warning. */
  #lastWarning: unknown;
  #keptAliveAtMs = -Infinity;

  constructor(address: PublisherAddress, context: FollowContext) {
    this.address = address;
    this.#context = { ...context, signal: AbortSignal.any([context.signal, this.#stop.signal]) };
    this.group = cohortInfoHash(address.publicKey, address.salt);
    this.#newer = new NewerEdition(address, { http: context.http, openDht: () => context.network.openDht() });
    this.#checkMs = context.checkMs ?? (address.baseUrl === undefined ? DHT_CHECK_MS : MIRROR_CHECK_MS);
  }

  /** Follows until it is stopped or the signal aborts. Never rejects. */
  async run(): Promise<void> {
    this.#context.network.joinCohort(this.group);
    await this.#try(() => this.#offerKept());
    await Promise.all([this.#askMembers(), this.#askPublisher()]);
  }

  /** Stops following. */
  stop(): void {
    this.#stop.abort();
  }

  /** Notes that a member claims to hold an edition. */
  onTold(teller: PeerRecord, edition: Edition): void {
    if (edition.seq <= this.#seq || (this.#unproven.get(hostKey(teller)) ?? 0) >= MAX_FALSE_CLAIMS) return;
    const [oldest] = this.#claims.keys();
    if (oldest !== undefined && this.#claims.size >= MAX_CLAIMS) this.#claims.delete(oldest);
    this.#claims.set(teller, edition);
    this.#news.emit('claim');
  }

  /** Fetches the editions that members claim to hold. A member that does not send the manifest keeps no other waiting. */
  async #askMembers(): Promise<void> {
    const { signal } = this.#context;
    while (!signal.aborted) {
      const claim = this.#newestClaim();
      if (claim === undefined) {
        await once(this.#news, 'claim', { signal }).catch(() => undefined);
      } else {
        await withinMs(
          HEDGE_MS,
          this.#try(() => this.#takeTold(...claim)),
        );
        await this.#taking; // its manifest is right: the rest may take longer
      }
    }
  }

  /** Asks the publisher from time to time. */
  async #askPublisher(): Promise<void> {
    const { signal } = this.#context;
    while (!signal.aborted) {
      await this.#try(() => this.#look());
      await this.#try(() => this.#keepPointerAlive());
      const waitMs = this.#isFound
        ? this.#checkMs
        : Math.min(this.#checkMs, RETRY_MS * 2 ** Math.max(0, this.#misses - 1));
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** A failure of the work causes a warning. */
  async #try(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#context.signal.aborted) this.#warn({ kind: 'failed', error: asError(error) });
    }
  }

  /** Passes on each warning once, until something else happens. */
  #warn(warning: Warning): void {
    const facts = factsOf(warning);
    if (!isDeepStrictEqual(facts, this.#lastWarning)) this.#context.onWarning(warning);
    this.#lastWarning = facts;
  }

  /** Offers the edition of an earlier run, so that followers need not wait for a publisher that may be off. */
  async #offerKept(): Promise<void> {
    const now = new Date();
    const kept = await readKept(this.address, this.#dir, now);
    if (kept === undefined || kept.manifest.expires <= now) return;
    await this.#offer(kept).catch(() => undefined); // the edition is not complete here
  }

  /** Fetches an edition that a member claims to hold. */
  async #takeTold(teller: PeerRecord, edition: Edition): Promise<void> {
    const host = hostKey(teller);
    this.#claims.delete(teller);
    this.#countUnproven(host);
    try {
      await using resolved = await resolveNamed(
        this.address,
        { seq: edition.seq, infoHash: edition.infoHash, teller },
        { ...this.#resolving, timeoutMs: NAMED_TIMEOUT_MS },
      );
      await this.#take(resolved);
      if (resolved.map.manifest.seq >= edition.seq) this.#unproven.delete(host);
    } catch {
      this.#context.signal.throwIfAborted();
    }
  }

  #countUnproven(host: string): void {
    const claims = (this.#unproven.get(host) ?? 0) + 1;
    this.#unproven.delete(host);
    const [oldest] = this.#unproven.keys();
    if (oldest !== undefined && this.#unproven.size >= MAX_CLAIMS) this.#unproven.delete(oldest);
    this.#unproven.set(host, claims);
  }

  /** Returns the highest claim above the edition that is here. Forgets the others. */
  #newestClaim(): [PeerRecord, Edition] | undefined {
    for (const [teller, { seq }] of this.#claims) if (seq <= this.#seq) this.#claims.delete(teller);
    return [...this.#claims].toSorted(([, a], [, b]) => b.seq - a.seq)[0];
  }

  /** Asks the publisher for a newer edition, and fetches it. */
  async #look(): Promise<void> {
    if (this.#isFound && !(await this.#newer.isAbove(this.#seq, this.#context.signal))) return;
    this.#isFound = false;
    this.#misses++;
    const onWarning = (warning: Warning): void => this.#warn(warning);
    const asksMembers = this.address.baseUrl !== undefined; // so that its failure is told with the edition that is used
    await using resolved = await resolveHashMap(this.address, { ...this.#resolving, asksMembers, onWarning });
    await this.#take(resolved);
    if (resolved.from !== 'network') return;
    this.#isFound = true;
    this.#misses = 0;
    this.#lastWarning = undefined;
  }

  /** Fetches and offers an edition, unless it is here already. */
  async #take({ map }: Resolved): Promise<void> {
    const taking = this.#taking.then(async () => {
      if (map.manifest.seq <= this.#seq) return;
      await map.fetchAll(this.#context.signal);
      await this.#offer({ manifest: map.manifest, bytes: map.manifestBytes });
    });
    this.#taking = taking.catch(() => undefined);
    await taking;
  }

  async #offer({ manifest, bytes }: Verified): Promise<void> {
    const { store, maps, network, onEdition } = this.#context;
    const { seq, shards } = manifest;
    const address = this.address;
    const edition = await seedEdition(store, { address, seq, manifest: bytes, shards, dir: this.#dir });
    this.#seq = Math.max(this.#seq, seq);
    if (!maps.add(address, edition)) return;
    network.members.tellEdition({ group: this.group, seq, infoHash: edition.torrent.infoHash });
    await onEdition(manifest);
  }

  /**
   * Puts the publisher's signed pointer into the DHT again. With enough followers, it stays there while the publisher
   * is off.
   */
  async #keepPointerAlive(): Promise<void> {
    const { network, signal } = this.#context;
    if (!network.announces || performance.now() - this.#keptAliveAtMs < KEEP_ALIVE_MS) return;
    const { publicKey } = this.address;
    const salt = saltBytes(this.address.salt);
    const dht = await network.openDht();
    const item = await dht?.getMutable(publicKey, salt, { signal });
    if (dht === undefined || item?.infoHash === undefined) return;
    this.#keptAliveAtMs = performance.now();
    const { seq, infoHash, signature } = item;
    await dht.putMutable({ publicKey, salt, seq, infoHash, sign: () => signature });
  }

  get #dir(): ReturnType<typeof indexDirOf> {
    return indexDirOf(inState(this.#context.store, 'index'), this.address);
  }

  get #resolving(): Parameters<typeof resolveHashMap>[1] & { readonly network: Network } {
    const { store, network, http, signal } = this.#context;
    return {
      network,
      getBytes: (url, limits) => http.getBytes(url, limits),
      dir: inState(store, 'index'),
      now: new Date(),
      timeoutMs: RESOLVE_TIMEOUT_MS,
      shardTimeoutMs: SHARD_TIMEOUT_MS,
      signal,
    };
  }
}

/** Returns the key under which the claims of a peer's host are counted. */
function hostKey({ address }: PeerRecord): string {
  return hostKeyOf(parseEndpoint(address).host);
}
