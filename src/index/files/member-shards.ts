import { hash } from 'node:crypto';
import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { Member, Outcome } from '../../exchange/member.ts';
import type { Members } from '../../exchange/members.ts';
import type { InfoHash } from '../../nix/brands.ts';
import { asFileHash, fileHashOf } from '../../nix/hash.ts';

/** Time for a member to send a shard before the next one is asked. Doubles with each round. */
const PATIENCE_MS = 2_000;
/** Limit on the members that are asked for a shard: each may hold memory for all of it. */
const MAX_ASKED = 8;

/** A shard that is asked for. */
export interface AskedShard {
  /** 52 nix32 characters. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** Reads one shard from one member. Keeps the bytes that arrived, so that a slow member can continue. */
export class ShardReading {
  readonly member: Member;
  readonly #shard: AskedShard;
  readonly #bytes: Buffer;
  #at = 0;

  constructor(member: Member, shard: AskedShard) {
    this.member = member;
    this.#shard = shard;
    this.#bytes = Buffer.allocUnsafe(shard.sizeBytes);
  }

  /** Returns the shard, or the reason why it did not arrive. `wrong`: it has another SHA-256. */
  async continue(signal: AbortSignal): Promise<Uint8Array | Exclude<Outcome, 'complete'> | 'wrong'> {
    const { sha256, sizeBytes } = this.#shard;
    const take = (part: Uint8Array): void => {
      this.#bytes.set(part, this.#at);
      this.#at += part.length;
    };
    const range = { file: asFileHash(`sha256:${sha256}`), from: this.#at, length: sizeBytes - this.#at };
    const outcome = await this.member.get(range, take, signal, { isUrgent: true });
    if (outcome !== 'complete') return outcome;
    return isShard(this.#bytes, sha256) ? this.#bytes : 'wrong';
  }
}

/**
 * Reads shards from the connected members that follow a hash map, whichever edition they hold: editions share shards.
 * Checks each shard. A slow member keeps the others waiting for two seconds, and is asked last from then on. One that
 * sends a wrong shard is not asked again.
 */
export class MemberShards {
  readonly #members: Members;
  readonly #group: InfoHash;
  readonly #slow = new WeakSet<PeerRecord>();
  readonly #wrong = new WeakSet<PeerRecord>();

  constructor(members: Members, group: InfoHash) {
    this.#members = members;
    this.#group = group;
  }

  /** Returns a shard. Undefined if no connected member gives it before the signal aborts. */
  async read(shard: AskedShard, signal: AbortSignal): Promise<Uint8Array | undefined> {
    let readings = this.#inOrder().map((member) => new ShardReading(member, shard));
    for (let patienceMs = PATIENCE_MS; readings.length > 0 && !signal.aborted; patienceMs *= 2) {
      const unfinished: ShardReading[] = [];
      for (const reading of readings) {
        const given = await reading.continue(AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]));
        const { peer } = reading.member;
        if (given instanceof Uint8Array) return given;
        if (given === 'wrong') this.#wrong.add(peer);
        if (given !== 'cancelled') continue;
        this.#slow.add(peer);
        unfinished.push(reading);
      }
      readings = unfinished;
    }
    return undefined;
  }

  /** Prefers members that claim to hold an edition, and then neighbours. */
  #inOrder(): Member[] {
    const holders = new Map(this.#members.editionsOf(this.#group));
    const rankOf = ({ peer, isNeighbour }: Member): number =>
      (this.#slow.has(peer) ? 4 : 0) + (holders.has(peer) ? 0 : 2) + (isNeighbour ? 0 : 1);
    const candidates = this.#members.of(this.#group).filter(({ peer }) => !this.#wrong.has(peer));
    return candidates.toSorted((a, b) => rankOf(a) - rankOf(b)).slice(0, MAX_ASKED);
  }
}

/** Returns true if these bytes have the SHA-256 of a shard. */
export function isShard(bytes: Uint8Array, sha256: string): boolean {
  return fileHashOf(hash('sha256', bytes, 'buffer')) === sha256;
}
