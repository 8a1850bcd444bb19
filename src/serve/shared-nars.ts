import { KeptMaps } from '../index/kept-maps.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isTrusted, verifyNarInfo, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { AskedBy } from '../store/catalogue.ts';

export interface SharedNarsOptions {
  /** Keys whose signatures count. */
  readonly keys: readonly PublicKey[];
  /** Those of them whose NARs are shared. */
  readonly shareKeys: readonly PublicKey[];
  /** The folder `narswarm/` of the store. */
  readonly stateDir: string;
}

/** How a NAR of this machine's own got into the store. */
const OWN: ReadonlySet<AskedBy | undefined> = new Set(['add', 'publish'] as const);

/**
 * Says what is shared with others, in the one place that does: the NARs that a share-key has signed, those that a map lists
 * which this machine follows or publishes, and those that it has added itself. Everything else is private, though its
 * key is trusted: a company's cache, a source tree that needs no signature.
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
   * Whether the NAR of a narinfo may be given to others, as far as its signatures tell. Never throws.
   *
   * @param askedBy what the catalogue says of it
   */
  async includes(info: NarInfo, askedBy?: AskedBy): Promise<boolean> {
    if (verifyNarInfo(info, this.#shareKeys) !== undefined) return true;
    if (!isTrusted(info, this.#keys)) return false;
    if (OWN.has(askedBy)) return true;
    const records = await this.#maps.find(storeHashOf(info.storePath));
    return records.some(({ storePath, narHash }) => storePath === info.storePath && narHash === info.narHash);
  }
}
