import type { Network } from '../../swarm/network.ts';
import { withinMs } from '../../within.ts';
import type { PublisherAddress } from '../address.ts';
import { cohortInfoHash } from '../cohort-key.ts';
import type { IndexSource } from '../hash-map.ts';
import { isShard, MemberShards } from './member-shards.ts';

/** Time for a mirror to send a shard before members are asked, too. */
const SILENT_MS = 5_000;

/** Adds the members that follow a hash map to its own source. */
export function orMembers(
  source: IndexSource,
  { address, network }: { readonly address: PublisherAddress; readonly network: Network | undefined },
): IndexSource {
  if (network === undefined) return source;
  return new OrMembers(source, new MemberShards(network.members, cohortInfoHash(address.publicKey, address.salt)));
}

/**
 * Reads the shards of a hash map from members if its own source fails, is silent, or sends a wrong one. Both are asked at
 * once from then on: a hash map may have a thousand shards.
 */
class OrMembers implements IndexSource {
  readonly #source: IndexSource;
  readonly #members: MemberShards;
  #patienceMs = SILENT_MS;

  constructor(source: IndexSource, members: MemberShards) {
    this.#source = source;
    this.#members = members;
  }

  async readFile(name: string, options: Parameters<IndexSource['readFile']>[1]): Promise<Uint8Array> {
    const { sha256, maxBytes: sizeBytes, signal } = options;
    if (sha256 === undefined) return this.#source.readFile(name, options);
    const stop = new AbortController();
    const ends = AbortSignal.any([signal, stop.signal]);
    const own = this.#source.readFile(name, { ...options, signal: ends });
    const right = own.then((bytes) => (isShard(bytes, sha256) ? bytes : Promise.reject(new Error(`wrong ${name}`))));
    try {
      const soon = await withinMs(this.#patienceMs, right).catch(() => undefined);
      if (soon !== undefined) return soon;
      signal.throwIfAborted();
      this.#patienceMs = 0;
      const given = this.#members.read({ sha256, sizeBytes }, ends);
      const others = given.then((bytes) => bytes ?? Promise.reject(new Error(`no member gives ${name}`)));
      return await Promise.any([right, others]).catch(() => own);
    } finally {
      stop.abort();
    }
  }
}
