import type { StoreHash } from '../../nix/brands.ts';
import { formatNarInfo, parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import type { LastEdition } from './last-edition.ts';

/** The records of an edition that is built: given ones, and those of the last edition that stay. */
export class RecordTexts {
  readonly given: ReadonlyMap<StoreHash, Buffer>;
  /** The store hashes that are gone since the last edition. Undefined: only given records count. */
  readonly removed: ReadonlySet<StoreHash> | undefined;
  readonly #last: LastEdition | undefined;

  constructor(
    given: ReadonlyMap<StoreHash, Buffer>,
    removed: ReadonlySet<StoreHash> | undefined,
    last: LastEdition | undefined,
  ) {
    this.given = given;
    this.removed = removed;
    this.#last = last;
  }

  /** Returns true if a record of the last edition stays as it is. */
  stays(hash: StoreHash): boolean {
    return this.removed !== undefined && !this.removed.has(hash) && !this.given.has(hash);
  }

  /** Finds a record. Undefined if the edition has none. @throws INDEX_INVALID if the last edition cannot be read */
  async find(hash: StoreHash): Promise<NarInfo | undefined> {
    const text = this.given.get(hash);
    if (text !== undefined) return parseNarInfo(text.toString());
    return this.stays(hash) ? this.#last?.find(hash) : undefined;
  }

  /** Returns the text of a record of the edition. */
  async of(hash: StoreHash): Promise<Buffer> {
    const text = this.given.get(hash);
    if (text !== undefined) return text;
    const record = await this.find(hash);
    if (record === undefined) throw new Error(`no record of ${hash}`);
    return Buffer.from(formatNarInfo(record));
  }
}
