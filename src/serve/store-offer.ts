import type { OfferedFile } from '../exchange/answers/offer.ts';
import { OfferedEditions } from '../index/files/editions.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import { Catalogue } from '../store/catalogue/catalogue.ts';
import { isInNixAs } from '../store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../store/file-store.ts';
import { NixNars } from '../store/in-nix/nix-nars.ts';
import { LastServed } from '../store/catalogue/last-served.ts';
import type { NetworkOptions } from '../swarm/network.ts';
import type { Seed } from '../swarm/swarm.ts';
import { Gate, seedOf } from './gate.ts';
import { HeldNars } from './held-nars.ts';
import { NarChecker } from './nar-checker.ts';
import { NixFile } from './nix-file.ts';
import { NarOffer } from './nar-offer.ts';
import { NarsHere } from './nars-here.ts';
import { OfferedPatches } from './offered-patches.ts';
import { SharedNars } from './shared-nars.ts';
import type { Warn } from '../warning.ts';

export interface StoreOfferOptions {
  readonly store: FileStore;
  /** Keys whose signatures count. */
  readonly keys: readonly PublicKey[];
  /**
   * The keys whose NARs are shared, besides NARs of hash maps and of this machine's own ({@link SharedNars}). Default:
   * none.
   */
  readonly shareKeys?: readonly PublicKey[];
  readonly onWarning: Warn;
}

/**
 * Everything that this process gives to others: the NARs of a file store that pass the {@link Gate}, the NARs of a
 * running fetch, and the editions of hash maps. Records when each NAR was last served.
 */
export class StoreOffer implements AsyncDisposable {
  readonly catalogue: Catalogue;
  readonly checker: NarChecker;
  /** The NARs in the Nix store of this machine. */
  readonly nixNars = new NixNars();
  /** NARs of a running fetch that the catalogue may not list yet. */
  readonly held: HeldNars;
  /** Editions of hash maps. */
  readonly maps = new OfferedEditions();
  /** The NARs and narinfos that members may get. */
  readonly forMembers: NarOffer;
  /** The NARs that can be given now, to whom it may be. */
  readonly here: NarsHere;
  readonly #gate: Gate;
  readonly #shared: SharedNars;
  readonly #patches: OfferedPatches;
  readonly #served: LastServed;

  private constructor(options: StoreOfferOptions, catalogue: Catalogue) {
    const { store, keys, shareKeys = [], onWarning } = options;
    const shared = (this.#shared = new SharedNars({ keys, shareKeys, stateDir: store.stateDir }));
    this.held = new HeldNars(shared);
    this.catalogue = catalogue;
    this.checker = new NarChecker({ store, catalogue, nixNars: this.nixNars, keys, onWarning });
    this.here = new NarsHere({ store, catalogue, nixNars: this.nixNars, checker: this.checker });
    this.#gate = new Gate(store, catalogue, shared, this.checker, this.nixNars);
    this.#served = new LastServed(store, onWarning);
    const [gate, served] = [this.#gate, this.#served];
    const patches = (this.#patches = new OfferedPatches({ store, catalogue, shared, served }));
    const { held, here, maps } = this;
    this.forMembers = new NarOffer({ store, catalogue, gate, held, here, shared, served, patches, maps });
  }

  /** Reads the store's catalogue. @throws STORE_UNWRITABLE */
  static async open(options: StoreOfferOptions): Promise<StoreOffer> {
    return new StoreOffer(options, await Catalogue.open(options.store));
  }

  /** The parts of a network's options that concern giving to peers. */
  get forNetwork(): Required<Pick<NetworkOptions, 'offer' | 'seeds' | 'seedable' | 'onUpload'>> {
    return {
      offer: this.forMembers,
      seeds: this.#served.noting((infoHash) => this.#seed(infoHash)),
      seedable: () => [
        ...this.held.infoHashes(),
        ...this.maps.infoHashes(),
        ...this.catalogue.infoHashes(),
        ...this.#patches.infoHashes(),
      ],
      onUpload: this.#served.onUpload,
    };
  }

  /** Returns true if others may have the NAR of a narinfo, or hear of it. Never throws. */
  isShared(info: NarInfo): Promise<boolean> {
    const entry = this.catalogue.byStorePath(info.storePath);
    const isListed = entry !== undefined && (entry.fileHash === info.fileHash || isInNixAs(entry, info));
    return this.#shared.includes(info, isListed ? entry.askedBy : undefined);
  }

  /**
   * Returns true if the file of a narinfo may go to others, and its contents are those of the path. Reads a file that was
   * never read, but does not wait long for that. Never throws.
   */
  async isProven({ storePath, fileHash }: NarInfo): Promise<boolean> {
    await this.catalogue.refresh().catch(() => undefined);
    const entry = this.catalogue.byStorePath(storePath);
    if (entry === undefined || entry.fileHash !== fileHash) return false;
    return (await this.#gate.pass(entry).catch(() => undefined)) !== undefined;
  }

  /**
   * Returns the uncompressed NAR of a path that is read from the Nix store. Undefined if it is not there, or is in `nar/`.
   *
   * @param isShared true to open only NARs that others may have
   */
  async inNix(info: NarInfo, { isShared }: { readonly isShared: boolean }): Promise<OfferedFile | undefined> {
    const entry = await this.here.inNix(info);
    if (entry === undefined) return undefined;
    return isShared ? (await this.#gate.open(entry))?.file : NixFile.open(entry, this.nixNars);
  }

  /** Opens a patch of a shared path, for the mirror of a hash map. Undefined if others may not have it. */
  openPatch(file: FileHash): Promise<OfferedFile | undefined> {
    return this.#patches.open(file);
  }

  /** See {@link LastServed.count}. */
  get servedNars(): number {
    return this.#served.count;
  }

  async #seed(infoHash: InfoHash): Promise<Seed | undefined> {
    const known = (await this.held.seed(infoHash)) ?? this.maps.get(infoHash);
    return known ?? seedOf(await this.#gate.admit(infoHash)) ?? this.#patches.seed(infoHash);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.forMembers.close();
    await this.held[Symbol.asyncDispose]();
    await this.checker.close();
    await this.#served.flush();
  }
}
