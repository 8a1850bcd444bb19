import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { InfoHash } from '../../nix/brands.ts';
import type { Network } from '../../swarm/network.ts';
import type { TorrentReader } from '../../swarm/torrent-reader.ts';
import { cohortInfoHash } from '../cohort-key.ts';
import type { IndexSource } from '../hash-map.ts';
import { MANIFEST_NAME } from './index-torrent.ts';
import { MemberFiles } from './member-files.ts';
import type { Lookup } from '../resolve/open-map.ts';
import type { Pointer } from '../format/pointer.ts';
import { verified } from '../format/verified-manifest.ts';

/** Time until peers are tried again: a peer may start to listen a moment later. */
const RETRY_MS = 1_000;

/**
 * Reads the files of a hash map from peers. Joins the swarm of its torrent only if the folder lacks a file that no member
 * gives.
 */
export class PeerSource implements IndexSource, AsyncDisposable {
  readonly #network: Network;
  readonly #infoHash: InfoHash;
  readonly #lifetime: AbortSignal;
  readonly #teller: PeerRecord | undefined;
  readonly #members: MemberFiles | undefined;
  #joining: Promise<{ reader: TorrentReader; stop: () => void }> | undefined;

  /**
   * @param options.teller the member that named this torrent. It is asked, and only it learns of the torrent. Undefined:
   *   other peers of the torrent are looked for, too
   * @param options.members members that are asked first. Default: none
   */
  constructor(
    network: Network,
    infoHash: InfoHash,
    lifetime: AbortSignal,
    options: { readonly teller?: PeerRecord | undefined; readonly members?: MemberFiles } = {},
  ) {
    this.#network = network;
    this.#infoHash = infoHash;
    this.#lifetime = lifetime;
    this.#teller = options.teller;
    this.#members = options.members;
  }

  async readFile(
    name: string,
    options: { maxBytes: number; signal: AbortSignal; sha256?: string },
  ): Promise<Uint8Array> {
    const given = this.#joining === undefined ? await this.#readFromMembers(name, options) : undefined;
    if (given !== undefined) return given;
    options.signal.throwIfAborted();
    this.#joining ??= this.#join();
    const { reader } = await this.#joining;
    return reader.readFile(name, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const joined = await this.#joining?.catch(() => undefined);
    joined?.stop();
    await joined?.reader.close();
  }

  #readFromMembers(
    name: string,
    { maxBytes, signal, sha256 }: { maxBytes: number; signal: AbortSignal; sha256?: string },
  ): Promise<Uint8Array | undefined> | undefined {
    if (name === MANIFEST_NAME) return this.#members?.manifest(signal);
    return sha256 === undefined ? undefined : this.#members?.shard(sha256, maxBytes, signal);
  }

  async #join(): Promise<{ reader: TorrentReader; stop: () => void }> {
    const { discovery, swarm } = this.#network;
    if (this.#teller === undefined) discovery.follow(this.#infoHash);
    const reader = await swarm.read(this.#infoHash);
    if (this.#teller !== undefined) reader.addPeer(this.#teller);
    const disconnect = connectCohort(reader, this.#network, this.#lifetime);
    const stop = (): void => {
      disconnect();
      if (this.#teller === undefined) discovery.unfollow(this.#infoHash);
    };
    return { reader, stop };
  }
}

/**
 * Makes the source of an edition: members first, then the peers of its torrent. Opens nothing yet.
 *
 * @param edition.teller the member that claims to hold it. Only it is asked. Undefined: all are
 */
export function sourceOfEdition(
  { address, now, lifetime }: Lookup,
  network: Network,
  { seq, infoHash, teller }: Pointer & { readonly teller?: PeerRecord },
): PeerSource {
  const group = cohortInfoHash(address.publicKey, address.salt);
  const isManifest = (bytes: Uint8Array): boolean => verified(address, bytes, now)?.manifest.seq === seq;
  const members = new MemberFiles(network.members, { group, infoHash, isManifest, teller });
  return new PeerSource(network, infoHash, lifetime, { teller, members });
}

/** Connects to every follower of the publisher, now and when new ones are found. */
function connectCohort(reader: TorrentReader, network: Network, signal: AbortSignal): () => void {
  const onPeer = (peer: Parameters<TorrentReader['addPeer']>[0]): void => reader.addPeer(peer);
  for (const peer of network.discovery.candidates()) onPeer(peer);
  network.discovery.on('peer', onPeer);
  const timer = setInterval(() => network.discovery.candidates().forEach(onPeer), RETRY_MS);
  const stop = (): void => {
    clearInterval(timer);
    network.discovery.off('peer', onPeer);
    signal.removeEventListener('abort', stop);
  };
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  return stop;
}
