import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { PeerRecord } from '../discovery/peer-table.ts';
import type { Edition } from '../exchange/messages/messages.ts';
import type { HttpClient } from '../http/client.ts';
import { formatPublisherAddress, saltBytes, type PublisherAddress } from '../index/address.ts';
import { cohortInfoHash } from '../index/cohort-key.ts';
import { EditionClaims, type EditionClaim } from '../index/resolve/edition-claims.ts';
import { seedEdition, type OfferedEditions } from '../index/files/editions.ts';
import type { Manifest } from '../index/manifest.ts';
import { NewerEdition } from './newer-edition.ts';
import { indexDirOf } from '../index/files/index-dir.ts';
import type { Resolved } from '../index/resolve/open-map.ts';
import { resolveHashMap, resolveNamed } from '../index/resolve/resolve.ts';
import { readKept, type Verified } from '../index/format/verified-manifest.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';
import type { Network } from '../swarm/network.ts';
import { asError, factsOf, type Warning, type Warn } from '../warning.ts';

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
/** Interval of putting the DHT item again (BEP 44: nodes may drop it after two hours). */
const KEEP_ALIVE_MS = 30 * 60_000;

/** An edition that is complete here. */
export type HeldEdition = Pick<Manifest, 'seq' | 'created' | 'expires' | 'recordCount'>;

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
 * cohort tell of newer editions that they have; the publisher is also asked from time to time. These two do not wait
 * for each other: a publisher may be silent for long.
 */
export class FollowedMap {
  readonly group: InfoHash;
  readonly address: PublisherAddress;
  readonly #context: FollowContext;
  readonly #newer: NewerEdition;
  readonly #checkMs: number;
  /** The edition that is here. */
  #edition: HeldEdition | undefined;
  readonly #stop = new AbortController();
  readonly #claims = new EditionClaims();
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

  /** The edition that is here. Undefined if there is none yet. */
  get edition(): HeldEdition | undefined {
    return this.#edition;
  }

  get #seq(): number {
    return this.#edition?.seq ?? 0;
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
    this.#claims.note(teller, edition);
  }

  /** Fetches the editions that members claim to hold. */
  async #askMembers(): Promise<void> {
    const read = async (claim: EditionClaim): Promise<boolean> => {
      let isRight = false;
      await this.#try(async () => void (isRight = await this.#takeTold(claim)));
      return isRight;
    };
    const isReady = (): Promise<unknown> => this.#taking; // a manifest was right: the rest may take longer
    await this.#claims.readEach(read, this.#context.signal, isReady).catch(() => undefined);
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

  /** Fetches an edition that a member claims to hold. @returns true if the member has given it, or a newer one */
  async #takeTold(claim: EditionClaim): Promise<boolean> {
    try {
      const options = { ...this.#resolving, timeoutMs: NAMED_TIMEOUT_MS };
      await using resolved = await resolveNamed(this.address, claim, options);
      await this.#take(resolved);
      return resolved.map.manifest.seq >= claim.seq;
    } catch {
      this.#context.signal.throwIfAborted();
      return false;
    }
  }

  /** Asks the publisher for a newer edition, and fetches it. */
  async #look(): Promise<void> {
    if (this.#isFound && !(await this.#newer.isAbove(this.#seq, this.#context.signal))) return;
    this.#isFound = false;
    this.#misses++;
    const onWarning = (warning: Warning): void => this.#warn(warning);
    const asksMembers = this.address.baseUrl !== undefined; // its failure is reported with the used edition
    await using resolved = await resolveHashMap(this.address, { ...this.#resolving, asksMembers, onWarning });
    await this.#take(resolved);
    if (resolved.from !== 'network') return;
    this.#isFound = true;
    this.#misses = 0;
    this.#lastWarning = undefined;
  }

  /** Warns of a publisher that has signed two histories. */
  async #checkHistory(): Promise<void> {
    const proof = await this.#dir.proof();
    const publisher = formatPublisherAddress(this.address);
    if (proof !== undefined) this.#warn({ kind: 'two-histories', publisher, proof });
  }

  /** Fetches and offers an edition, unless it is here already. */
  async #take({ map }: Resolved): Promise<void> {
    await this.#checkHistory();
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
    const edition = await seedEdition(store, { address: this.address, manifest, bytes, dir: this.#dir });
    const { seq, created, expires, recordCount } = manifest;
    if (seq >= this.#seq) this.#edition = { seq, created, expires, recordCount };
    this.#claims.hold(seq, edition.torrent.infoHash);
    if (!maps.add(this.address, edition)) return;
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
