/** Hash maps in memory. */
import { buildShards, signIndex, type IndexParts } from '../../src/index/build.ts';
import type { StoreHash } from '../../src/nix/brands.ts';
import { GOLDEN } from './fixtures.ts';
import type { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifestText } from '../../src/index/format/manifest-text.ts';
import { fileNameOf, type FileEntry, type ListedShard } from '../../src/index/format/shard.ts';

/** A hash map, ready to be written to disk. */
export interface BuiltIndex {
  readonly manifest: Uint8Array;
  /** The files below `shards/`, by their names. */
  readonly files: ReadonlyMap<string, ListedShard>;
  /** Those that are named by a prefix, by it. */
  readonly shards: ReadonlyMap<string, ListedShard>;
}

/** A folder in memory. */
export function memoryDir(files: Map<string, ListedShard>): Pick<IndexDir, 'readShard' | 'writeShard'> {
  return {
    readShard: (entry) => Promise.resolve(files.get(fileNameOf(entry))),
    writeShard: (entry, bytes) => Promise.resolve(void files.set(fileNameOf(entry), bytes as ListedShard)),
  };
}

/** Builds and signs an edition. @param last the edition before */
export async function buildIndex(
  parts: IndexParts & { readonly removed?: ReadonlySet<StoreHash> },
  last?: BuiltIndex,
): Promise<BuiltIndex> {
  const there = new Map(last?.files);
  const before =
    last &&
    parseManifestText(
      Buffer.from(last.manifest)
        .toString()
        .replace(/Sig: .*\n$/, ''),
    ).manifest;
  const built = await buildShards(parts, before, memoryDir(there));
  const { records: _records, roots: _roots, removed: _removed, ...decided } = parts;
  const bytesOf = (entry: FileEntry): ListedShard => there.get(fileNameOf(entry))!;
  return {
    manifest: signIndex(decided, built),
    files: new Map(built.files.map((entry) => [fileNameOf(entry), bytesOf(entry)])),
    shards: new Map(
      built.files.flatMap((entry) => (entry.prefix === undefined ? [] : [[entry.prefix, bytesOf(entry)] as const])),
    ),
  };
}

/** Writes an edition into a folder. */
export async function writeIndex(dir: IndexDir, { manifest, files }: BuiltIndex): Promise<void> {
  for (const [name, bytes] of files) await dir.writeShard({ ...entryNamed(name), sizeBytes: bytes.length }, bytes);
  await dir.writeManifest(manifest);
}

function entryNamed(name: string): Omit<FileEntry, 'sizeBytes'> {
  const word = name.slice('shards/'.length, -'.zst'.length);
  return word.length > 4 ? { sha256: word } : { prefix: word === 'all' ? '' : word, sha256: '' };
}

const GOLDEN_SHARDS = await buildShards(GOLDEN, undefined, memoryDir(new Map()));

/** Signs the manifest of the golden hash map with other parts than its records. */
export function signGolden(changes: Partial<Omit<IndexParts, 'records' | 'roots'>>): Uint8Array {
  const { records: _records, roots: _roots, ...decided } = GOLDEN;
  return signIndex({ ...decided, ...changes }, GOLDEN_SHARDS);
}
