import { NarswarmError } from '../../errors.ts';
import { MAX_MAP_BYTES } from '../format/limits.ts';
import type { Manifest } from '../format/manifest-text.ts';
import { decodePrefixList, decodeRootList } from '../format/shard-list.ts';
import { fileNameOf, type FileEntry, type ListedShard } from '../format/shard.ts';

/** Returns the bytes of a file that match its entry. Undefined if they are not there. */
export type ReadFile = (entry: FileEntry) => Promise<ListedShard | undefined>;

/**
 * Yields every file of an edition except the manifest, each once, lists before the files that they name. Leaves out the
 * files that an absent list would name.
 *
 * @param read called for lists
 * @throws INDEX_INVALID for a malformed list, or more bytes than a hash map may have; errors of `read`
 */
export async function* editionFiles(
  { roots, shards, prefixLength }: Pick<Manifest, 'roots' | 'shards' | 'prefixLength'>,
  read: ReadFile,
): AsyncGenerator<FileEntry> {
  const names = new Set<string>();
  let totalBytes = 0;
  const isNew = (entry: FileEntry): boolean => {
    const name = fileNameOf(entry);
    if (names.has(name)) return false;
    names.add(name);
    totalBytes += entry.sizeBytes;
    if (totalBytes <= MAX_MAP_BYTES) return true;
    throw new NarswarmError('INDEX_INVALID', `the hash map has more than ${MAX_MAP_BYTES} bytes`);
  };
  for (const { list } of roots) {
    if (list === undefined || !isNew(list)) continue;
    yield list;
    const bytes = await read(list);
    if (bytes !== undefined) yield* decodeRootList(bytes).filter(isNew);
  }
  for (const entry of shards) {
    if (!isNew(entry)) continue;
    yield entry;
    const bytes = prefixLength > 1 ? await read(entry) : undefined;
    if (bytes !== undefined) yield* decodePrefixList(bytes, entry, prefixLength).filter(isNew);
  }
}
