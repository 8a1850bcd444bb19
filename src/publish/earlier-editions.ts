import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError } from '../errors.ts';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import { HashMap } from '../index/hash-map.ts';
import { IndexDir } from '../index/files/index-dir.ts';
import { NOT_HERE } from '../index/files/not-here.ts';
import { readKept } from '../index/format/verified-manifest.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';

/** Name of an edition's folder: index/files/editions.ts. */
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
    const map = new HashMap(dir.dir, { ...edition, fetchedBytes: 0 }, dir, NOT_HERE);
    const { signal } = new AbortController();
    const records: NarInfo[] = [];
    try {
      for await (const hash of map.storeHashes(signal)) {
        const record = await map.find(hash, signal);
        if (record !== undefined) records.push(record);
      }
    } catch (error) {
      if (isNarswarmError(error, 'INDEX_INVALID', 'INDEX_UNREACHABLE')) continue;
      throw error;
    }
    editions.push(records);
  }
  return editions;
}
