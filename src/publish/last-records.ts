import { createHash } from 'node:crypto';
import type { PublisherAddress } from '../index/address.ts';
import type { IndexDir } from '../index/files/index-dir.ts';
import { LastEdition } from '../index/edition/last-edition.ts';
import type { Manifest } from '../index/manifest.ts';
import { prefixLengthFor, shardPrefix, type ShardEntry } from '../index/format/shard.ts';
import type { ShardRecords } from '../index/files/shard-records.ts';
import { readKept } from '../index/format/verified-manifest.ts';
import type { StoreHash } from '../nix/brands.ts';
import { formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { formatPublicKey, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';

/** Records in one file of the last edition, by their places. */
interface Marked {
  readonly entry: ShardEntry;
  readonly isKept: Uint8Array;
}

/**
 * The records of the last edition of this machine's own hash map, which were verified when it was built. Reads one file at a
 * time: records are best asked for in the order of their store hashes.
 */
export class LastRecords {
  readonly #manifest: Manifest;
  readonly #edition: LastEdition;
  readonly #entries: ReadonlyMap<string, ShardEntry>;
  readonly #marked = new Map<string, Marked>();
  #open: { readonly prefix: string; readonly records: ShardRecords } | undefined;

  private constructor(manifest: Manifest, edition: LastEdition, entries: readonly ShardEntry[]) {
    this.#manifest = manifest;
    this.#edition = edition;
    this.#entries = new Map(entries.map((entry) => [entry.prefix, entry]));
  }

  /**
   * Opens the edition in the folder. Undefined if there is none, if it is for another store directory, or if its records
   * were verified with other keys.
   *
   * @throws INDEX_INVALID, if its files are damaged
   */
  static async open(
    address: PublisherAddress,
    dir: IndexDir,
    { storeDir, keys }: { readonly storeDir: string; readonly keys: readonly PublicKey[] },
  ): Promise<LastRecords | undefined> {
    const last = await readKept(address, dir, new Date());
    if (last === undefined || last.manifest.storeDir !== storeDir) return undefined;
    if ((await dir.verifiedWith()) !== mark(last.bytes, keys)) return undefined;
    const edition = new LastEdition(last.manifest, dir, { isNeeded: true });
    return new LastRecords(last.manifest, edition, await edition.prefixShards());
  }

  /** Notes with which keys the records of the edition in the folder were verified. */
  static async note(dir: IndexDir, manifest: Uint8Array, keys: readonly PublicKey[]): Promise<void> {
    await dir.noteVerified(mark(manifest, keys));
  }

  /** Returns true if the edition has exactly this record, and marks it as kept. @throws INDEX_INVALID */
  async has(record: NarInfo): Promise<boolean> {
    const hash = storeHashOf(record.storePath);
    const entry = this.#entries.get(shardPrefix(hash, this.#manifest.prefixLength));
    if (entry === undefined) return false;
    const records = await this.#read(entry);
    const place = records.indexOf(hash);
    if (place === undefined || !records.textAt(place).equals(Buffer.from(formatNarInfo(record)))) return false;
    const marked = this.#marked.get(entry.prefix) ?? { entry, isKept: new Uint8Array(records.size) };
    marked.isKept[place] = 1;
    this.#marked.set(entry.prefix, marked);
    return true;
  }

  /** Returns the store hashes of the records that were not marked as kept. @throws INDEX_INVALID */
  async others(): Promise<Set<StoreHash>> {
    const others = new Set<StoreHash>();
    for (const entry of this.#entries.values()) {
      const marked = this.#marked.get(entry.prefix);
      if (marked?.isKept.every((one) => one === 1) === true) continue;
      let place = 0;
      for (const hash of (await this.#read(entry)).keys()) if (marked?.isKept[place++] !== 1) others.add(hash);
    }
    return others;
  }

  /** Returns true if an edition with that many records is divided as this one is. */
  isDividedFor(recordCount: number): boolean {
    return prefixLengthFor(recordCount) === this.#manifest.prefixLength;
  }

  async #read(entry: ShardEntry): Promise<ShardRecords> {
    if (this.#open?.prefix !== entry.prefix) {
      const records = await this.#edition.records(entry);
      if (records === undefined) throw new Error(`no ${entry.prefix}`); // an edition that is needed throws itself
      this.#open = { prefix: entry.prefix, records };
    }
    return this.#open.records;
  }
}

/** Returns a text that is another one for each edition and set of keys. */
function mark(manifest: Uint8Array, keys: readonly PublicKey[]): string {
  const names = keys.map(formatPublicKey).toSorted();
  return createHash('sha256')
    .update(manifest)
    .update(`\0${names.join('\n')}`)
    .digest('hex');
}
