import { KeptMaps } from '../index/files/kept-maps.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isTrusted, verifyNarInfoAside, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { AskedBy } from '../store/catalogue/catalogue-entry.ts';

export interface SharedNarsOptions {
  /** Trusted keys. */
  readonly keys: readonly PublicKey[];
  /** The trusted keys whose NARs are shared. */
  readonly shareKeys: readonly PublicKey[];
  /** The folder `narswarm/` of the store. */
  readonly stateDir: string;
}

/** The decision whether a NAR is shared, and its validity ({@link SharedNars.stillHolds}). */
export interface Verdict {
  readonly isShared: boolean;
  /** The version of the hash maps that it rests on. Undefined if it does not depend on hash maps. */
  readonly mapsVersion?: number | undefined;
}

/** Reasons for which NARs made on this machine are in the store. */
const OWN: ReadonlySet<AskedBy | undefined> = new Set(['add', 'publish'] as const);

/**
 * Decides which NARs are shared with others. No other place decides it. Shares NARs signed by a share-key, NARs in a
 * hash map that this machine follows or publishes, and NARs that it has added itself. Everything else is private, even
 * if its key is trusted: a company's cache, or a source tree that needs no signature.
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

  /** Returns false for a verdict that rests on a hash map that has changed since, or is no longer followed. */
  stillHolds({ mapsVersion }: Pick<Verdict, 'mapsVersion'>): boolean {
    return mapsVersion === undefined || mapsVersion === this.#maps.version;
  }

  /**
   * Decides by its signatures whether the NAR of a narinfo may be given to others. Never throws.
   *
   * @param askedBy the reason in the catalogue for having the NAR
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
