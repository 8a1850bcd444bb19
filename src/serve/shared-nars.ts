import { KeptMaps } from '../index/kept-maps.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isTrusted, verifyNarInfoAside, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { AskedBy } from '../store/catalogue.ts';

export interface SharedNarsOptions {
  /** Trusted keys. */
  readonly keys: readonly PublicKey[];
  /** Those of the keys whose NARs are shared. */
  readonly shareKeys: readonly PublicKey[];
  /** The folder `narswarm/` of the store. */
  readonly stateDir: string;
}

/** Whether a NAR is shared, and for how long that holds ({@link SharedNars.stillHolds}). */
export interface Verdict {
  readonly isShared: boolean;
  /** The version of the hash maps by which it was judged. Undefined if it does not depend on them. */
  readonly mapsVersion?: number | undefined;
}

/** Ways in which a NAR of this machine's own got into the store. */
const OWN: ReadonlySet<AskedBy | undefined> = new Set(['add', 'publish'] as const);

/**
 * Decides what is shared with others, in the only place: NARs signed by a share-key, NARs in a hash map that this
 * machine follows or publishes, and NARs that it has added itself. Everything else is private, even if its key is
 * trusted: a company's cache, or a source tree that needs no signature.
 */
export class SharedNars {
  readonly #keys: readonly PublicKey[];
  readonly #shareKeys: readonly PublicKey[];
  readonly #maps: KeptMaps;

  constructor({ keys, shareKeys, stateDir }: SharedNarsOptions) {
    this.#keys = keys;
    this.#shareKeys = shareKeys;
    this.#maps = new KeptMaps(stateDir);
  }

  /** Returns true if the NAR of a narinfo may be given to others now, as {@link judge} does. */
  async includes(info: NarInfo, askedBy?: AskedBy): Promise<boolean> {
    return (await this.judge(info, askedBy)).isShared;
  }

  /** Returns false for a verdict by a hash map that has changed since, or that nobody follows any longer. */
  stillHolds({ mapsVersion }: Pick<Verdict, 'mapsVersion'>): boolean {
    return mapsVersion === undefined || mapsVersion === this.#maps.version;
  }

  /**
   * Judges by its signatures whether the NAR of a narinfo may be given to others. Never throws.
   *
   * @param askedBy the catalogue's reason for the NAR
   */
  async judge(info: NarInfo, askedBy?: AskedBy): Promise<Verdict> {
    if ((await verifyNarInfoAside(info, this.#shareKeys)) !== undefined) return { isShared: true };
    if (!isTrusted(info, this.#keys)) return { isShared: false };
    if (OWN.has(askedBy)) return { isShared: true };
    const mapsVersion = this.#maps.version;
    const records = await this.#maps.find(storeHashOf(info.storePath));
    const isShared = records.some(({ storePath, narHash }) => storePath === info.storePath && narHash === info.narHash);
    return { isShared, mapsVersion };
  }
}
