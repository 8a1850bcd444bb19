import { generateKeyPairSync, createPublicKey, randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Limits } from '../bytes/rate-limits.ts';
import type { Endpoint } from '../discovery/endpoint.ts';
import { ownName, removeLeft } from '../disk/owner.ts';
import { toRecord } from '../index/record.ts';
import type { InfoHash, StorePath } from '../nix/brands.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import { formatPublicKey } from '../nix/signature.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { addPaths } from '../store/export/add-paths.ts';
import { torrentOfEntry } from '../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../store/file-store.ts';
import { withSignature, type Signer } from '../store/export/signer.ts';
import type { NarFormat } from '../store/export/write-nar.ts';
import { Network, type NetworkOptions } from '../swarm/network.ts';
import type { Warn } from '../warning.ts';

export interface OutgoingOptions {
  /** Folder for pushes from this machine. */
  readonly dir: string;
  readonly format: NarFormat;
  /** A key that signs the paths, besides the key of the push. Undefined: none. */
  readonly signer: Signer | undefined;
  readonly network: Pick<NetworkOptions, 'listen' | 'ports'>;
  readonly limits?: Limits | undefined;
  readonly onWarning: Warn;
}

/**
 * The pushing machine's part of the cohort: a file store for this push alone, with the exported NARs, and a place in
 * the network that gives them to members of the cohort alone. Both secrets, the key and the group, end with the push.
 */
export class Outgoing implements AsyncDisposable {
  /** 20 random bytes in hex: a machine that knows them is a member. */
  readonly group: InfoHash;
  readonly #signer: Signer;
  readonly #options: OutgoingOptions;
  readonly #store: FileStore;
  readonly #offer: StoreOffer;
  readonly #network: Network;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    options: OutgoingOptions,
    parts: { group: InfoHash; signer: Signer; store: FileStore; offer: StoreOffer; network: Network },
    stack: AsyncDisposableStack,
  ) {
    this.#options = options;
    this.group = parts.group;
    this.#signer = parts.signer;
    this.#store = parts.store;
    this.#offer = parts.offer;
    this.#network = parts.network;
    this.#stack = stack;
  }

  /** Makes the store and joins the network. @throws LISTEN_FAILED, STORE_UNWRITABLE */
  static async open(options: OutgoingOptions): Promise<Outgoing> {
    const { dir, network, limits, onWarning } = options;
    await using stack = new AsyncDisposableStack();
    await removeLeft(dir);
    const storeDir = join(dir, await ownName());
    stack.defer(() => rm(storeDir, { recursive: true, force: true }));
    const store = await FileStore.open(storeDir, { create: true });
    const signer = makeSigner();
    const keys = [signer.publicKey];
    const offer = stack.use(await StoreOffer.open({ store, keys, shareKeys: keys, onWarning }));
    const joined = stack.use(
      await Network.join({
        ...network,
        ...offer.forNetwork,
        scope: 'cohort',
        dht: false,
        lan: false,
        peers: [],
        onlyMembers: true,
        limits,
        onWarning,
      }),
    );
    const group = randomBytes(20).toString('hex') as InfoHash;
    joined.joinCohort(group);
    return new Outgoing(options, { group, signer, store, offer, network: joined }, stack.move());
  }

  /** The key that signs all records, as text. */
  get key(): string {
    return formatPublicKey(this.#signer.publicKey);
  }

  /** The port for peers. */
  get port(): number {
    return this.#network.swarm.port;
  }

  /** Adds a member that may be reached there. */
  addPeer(peer: Endpoint): void {
    this.#network.discovery.add(peer, 'given');
  }

  /**
   * Exports paths, and gives them to members from then on.
   *
   * @param paths of Nix's default store; each of their references was exported before, is among them, or is not needed
   * @returns their records: signed narinfos with torrents, by path
   * @throws NIX_FAILED, STORE_FULL, STORE_UNWRITABLE; the signal's reason
   */
  async export(
    paths: readonly ValidPath[],
    { onBytes, signal }: { readonly onBytes: (bytes: number) => void; readonly signal: AbortSignal },
  ): Promise<ReadonlyMap<StorePath, string>> {
    const { format, signer, onWarning } = this.#options;
    const { infos } = await addPaths(paths, {
      store: this.#store,
      format,
      signer: this.#signer,
      signal,
      tell: (event) => event.type === 'bytes-exported' && onBytes(event.bytes),
      onWarning,
    });
    const { catalogue } = this.#offer;
    await catalogue.refresh();
    return new Map(
      infos.map((info) => {
        const entry = catalogue.byStorePath(info.storePath);
        const torrent = entry && torrentOfEntry(entry);
        if (torrent === undefined) throw new TypeError(`${info.storePath} was exported without a torrent`);
        return [info.storePath, formatNarInfo(toRecord(withSignature(info, signer), torrent))];
      }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Makes the key of one push. */
function makeSigner(): Signer {
  const name = `narswarm-push-${randomBytes(4).toString('hex')}`;
  const { privateKey } = generateKeyPairSync('ed25519');
  return {
    secretKey: { name, key: privateKey },
    publicKey: { name, key: createPublicKey(privateKey), verified: new WeakSet() },
  };
}
