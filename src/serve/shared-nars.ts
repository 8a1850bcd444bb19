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

  /**
   * Returns true if the NAR of a narinfo may be given to others, judged by its signatures. Never throws.
   *
   * @param askedBy the catalogue's reason for the NAR
   */
  async includes(info: NarInfo, askedBy?: AskedBy): Promise<boolean> {
    if ((await verifyNarInfoAside(info, this.#shareKeys)) !== undefined) return true;
    if (!isTrusted(info, this.#keys)) return false;
    if (OWN.has(askedBy)) return true;
    const records = await this.#maps.find(storeHashOf(info.storePath));
    return records.some(({ storePath, narHash }) => storePath === info.storePath && narHash === info.narHash);
  }
}
