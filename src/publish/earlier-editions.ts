import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError } from '../errors.ts';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import { IndexDir } from '../index/index-dir.ts';
import { MAX_SHARD_TEXT_BYTES } from '../index/limits.ts';
import { assertShard, decodeShard } from '../index/shard.ts';
import { readKept } from '../index/verified-manifest.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';

/** Name of an edition's folder: index/editions.ts. */
const EDITION = /^(\d+)-[0-9a-f]{40}$/;

/**
 * Reads the records of the kept editions of this machine's own hash map, the newest first. Leaves out editions that are
 * damaged.
 */
export async function earlierEditions(store: FileStore, address: PublisherAddress, now: Date): Promise<NarInfo[][]> {
  const parent = join(inState(store, 'generations'), mapFolder(address));
  const names = (await readdir(parent).catch(() => [])).filter((name) => EDITION.test(name));
  const seqOf = (name: string): number => Number(EDITION.exec(name)?.[1]);
  const editions: NarInfo[][] = [];
  for (const name of names.toSorted((a, b) => seqOf(b) - seqOf(a))) {
    const dir = new IndexDir(join(parent, name));
    const edition = await readKept(address, dir, now);
    if (edition === undefined) continue;
    const records: NarInfo[] = [];
    try {
      for (const entry of edition.manifest.shards) {
        const bytes = (await dir.readShard(entry.prefix)) ?? new Uint8Array();
        assertShard(entry, bytes);
        for (const [, record] of decodeShard(bytes, { maxBytes: MAX_SHARD_TEXT_BYTES })) records.push(record);
      }
    } catch (error) {
      if (isNarswarmError(error, 'INDEX_INVALID')) continue;
      throw error;
    }
    editions.push(records);
  }
  return editions;
}
