import { once } from 'node:events';
import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { Member } from '../../exchange/member.ts';
import type { Members } from '../../exchange/members.ts';
import type { InfoHash, StoreHash } from '../../nix/brands.ts';
import { encodeNix32 } from '../../nix/nix32.ts';
import { parseStoreHash } from '../../nix/store-path.ts';
import { ShardReading } from './member-shards.ts';

/** Time that members have for a file, before the peers of its torrent are asked. */
const PATIENCE_MS = 2_000;
/** Time to wait for a first member that is being connected to. */
const MEETING_MS = 50;

/** The edition whose files are asked for. */
export interface AskedEdition {
  /** The group whose members follow the hash map. */
  readonly group: InfoHash;
  /** Infohash of its torrent. */
  readonly infoHash: InfoHash;
  /** Returns true for the signed manifest of exactly this edition. */
  readonly isManifest: (bytes: Uint8Array) => boolean;
  /** The member that is asked, and no other. Undefined: one that follows the hash map. */
  readonly teller?: PeerRecord | undefined;
}

/**
 * Reads the files of an edition of a hash map from a member, over the connection that is there: joining the swarm of its
 * torrent costs more than all of a small closure's narinfos. Checks each file. After a failure nobody is asked again:
 * the peers of the torrent have the rest.
 */
export class MemberFiles {
  readonly #members: Members;
  readonly #edition: AskedEdition;
  #hasFailed = false;

  constructor(members: Members, edition: AskedEdition) {
    this.#members = members;
    this.#edition = edition;
  }

  /** Returns the manifest. Undefined if no member gives the right one. */
  manifest(signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { infoHash, isManifest } = this.#edition;
    return this.#ask(signal, async (member, ends) => {
      const [text] = await member.narInfos([manifestName(infoHash)], ends);
      const bytes = text === undefined ? undefined : Buffer.from(text);
      return bytes !== undefined && isManifest(bytes) ? bytes : undefined;
    });
  }

  /** Returns a shard. Undefined if no member gives the right one. @param sha256 52 nix32 characters */
  shard(sha256: string, sizeBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#ask(signal, async (member, ends) => {
      const given = await new ShardReading(member, { sha256, sizeBytes }).continue(ends);
      return given instanceof Uint8Array ? given : undefined;
    });
  }

  async #ask(
    signal: AbortSignal,
    read: (member: Member, ends: AbortSignal) => Promise<Uint8Array | undefined>,
  ): Promise<Uint8Array | undefined> {
    if (this.#hasFailed) return undefined;
    const member = await this.#someMember(signal);
    const ends = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
    const bytes = member && (await read(member, ends));
    if (bytes === undefined && member !== undefined) this.#hasFailed = true;
    return bytes;
  }

  async #someMember(signal: AbortSignal): Promise<Member | undefined> {
    const members = this.#members;
    const { group, teller } = this.#edition;
    if (teller !== undefined) return members.of(group).find(({ peer }) => peer === teller);
    if (members.of(group).length === 0 && members.isMeeting) {
      const ends = AbortSignal.any([signal, AbortSignal.timeout(MEETING_MS)]);
      await once(members, 'member', { signal: ends }).catch(() => undefined);
    }
    const all = members.of(group);
    return all.find(({ isNeighbour }) => isNeighbour) ?? all[0];
  }
}

/**
 * Returns the name by which members ask for the manifest of an edition, instead of a store hash: both have 160 bits.
 */
export function manifestName(infoHash: InfoHash): StoreHash {
  return parseStoreHash(encodeNix32(Buffer.from(infoHash, 'hex')));
}
