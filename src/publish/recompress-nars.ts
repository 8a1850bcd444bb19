import type { NarHash } from '../nix/brands.ts';
import { contentsCheckOf } from '../nix/contents-check.ts';
import { isAddressedBesideNarHash } from '../nix/content-address.ts';
import { freeBytesAt } from '../disk/free-bytes.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import { contentsOf } from '../store/catalogue/catalogue-entry.ts';
import { ExportFolder, type FolderNar } from '../store/export/export-folder.ts';
import type { FileStore } from '../store/file-store.ts';
import { assertIsOfFile, isReadable } from '../store/hashing/find-nar-hash.ts';
import { readContents } from '../store/hashing/nar-contents.ts';
import { eachAtEncoders, type NarFormat } from '../store/export/write-nar.ts';
import { soundOf } from './collect-records.ts';
import { estimatedBytes } from './estimated-bytes.ts';
import { replaceNars, type Compressed, type ReplacedSums } from './replaced-nars.ts';

/** The compression that NARs get. */
const COMPRESSION = 'zstd';

/** Progress of a recompression. Bytes are those of NARs before compression. */
export type RecompressionEvent =
  | {
      readonly type: 'recompressing';
      readonly nars: number;
      readonly bytes: number;
      /** Bytes of NARs that an interrupted run has completed. */
      readonly keptBytes: number;
    }
  | { readonly type: 'bytes-recompressed'; readonly bytes: number }
  | { readonly type: 'nar-recompressed' };

/** How to compress NARs again. */
export interface Recompression {
  /** Level of zstd. Undefined: the default. */
  readonly level: number | undefined;
  readonly tell: (event: RecompressionEvent) => void;
}

/** NARs that were compressed again. */
export interface Recompressed extends ReplacedSums {
  /** Number of NARs that could not be read. They stay as they are. */
  readonly left: number;
}

/** A NAR to compress again. */
export interface OtherNar {
  readonly narHash: NarHash;
  readonly narSize: number;
  /** Bytes of its files, by their names. */
  readonly files: ReadonlyMap<string, number>;
  /** Narinfos with that NarHash, as the store has them. */
  readonly infos: readonly [NarInfo, ...NarInfo[]];
}

/**
 * Finds the NARs that are not compressed with zstd. Leaves out those that cannot be published: without a signature, without a
 * file, with contents that are known to be wrong, or with a compression that cannot be read here.
 */
export async function otherNars(
  infos: readonly NarInfo[],
  { store, catalogue, keys }: { store: FileStore; catalogue: Catalogue; keys: readonly PublicKey[] },
): Promise<OtherNar[]> {
  const found = new Map<NarHash, OtherNar & { readonly files: Map<string, number>; readonly infos: NarInfo[] }>();
  for (const info of infos) {
    const { compression, narHash, narSize, url } = info;
    if (compression === COMPRESSION || !isReadable(compression) || soundOf(info, keys) === undefined) continue;
    const file = store.statNarNow(info);
    if (file === undefined) continue;
    const entry = catalogue.knows(info, file);
    if (entry !== undefined && contentsOf(entry, info) === 'wrong') continue;
    const known = found.get(narHash);
    if (known === undefined)
      found.set(narHash, { narHash, narSize, files: new Map([[url, file.sizeBytes]]), infos: [info] });
    else if (known.narSize === narSize) {
      known.files.set(url, file.sizeBytes);
      known.infos.push(info);
    }
  }
  return [...found.values()].toSorted((a, b) => b.narSize - a.narSize);
}

/**
 * Compresses the NARs of a store with zstd, as far as they have another compression. Then lets their narinfos name the new
 * files, all at once: {@link replaceNars}. Decompresses each first, and leaves it as it is if it has other contents than
 * were signed. Signatures stay as they are, since they do not cover the file.
 *
 * It is safe to kill this at any moment. The next run continues. Until all are compressed, the store serves the old
 * files.
 *
 * @param infos narinfos of the store
 * @returns also the narinfos as they were. Their files stay until {@link removeReplaced}
 * @throws STORE_FULL, also if there seems to be too little room; STORE_UNWRITABLE; NIX_MISSING if the program that
 *   decompresses a NAR is missing; the signal's reason
 */
export async function recompressNars(
  infos: readonly NarInfo[],
  context: {
    readonly store: FileStore;
    readonly catalogue: Catalogue;
    readonly keys: readonly PublicKey[];
    readonly recompression: Recompression;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly done: Recompressed; readonly old: readonly NarInfo[] }> {
  const { store, catalogue, signal } = context;
  const { level, tell } = context.recompression;
  const nars = await otherNars(infos, context);
  if (nars.length === 0) return { done: { nars: 0, fileBytes: 0, bytes: 0, narBytes: 0, left: 0 }, old: [] };
  const format: NarFormat = { compression: COMPRESSION, ...(level !== undefined && { level }) };
  await using folder = await ExportFolder.open(store, 'recompress');
  await folder.claim(
    nars.flatMap((nar) => nar.infos),
    signal,
  );
  // The address of the others was checked by the run that has compressed them.
  const resumable = nars.filter((nar) => !nar.infos.some(isAddressedBesideNarHash)).map((nar) => nar.narHash);
  const kept = new Map<NarHash, FolderNar>();
  for (const nar of await folder.takeOver(new Set(resumable), format, signal)) kept.set(nar.narHash, nar);
  const rest = nars.filter(({ narHash }) => !kept.has(narHash));
  await assertRoom(store, estimatedBytes(rest));
  const bytes = nars.reduce((sum, { narSize }) => sum + narSize, 0);
  const keptBytes = nars.reduce((sum, { narHash, narSize }) => sum + (kept.has(narHash) ? narSize : 0), 0);
  tell({ type: 'recompressing', nars: nars.length, bytes, keptBytes });
  const compressed: Compressed[] = [];
  for (const other of nars) {
    const nar = kept.get(other.narHash);
    if (nar === undefined) continue;
    compressed.push({ ...other, nar });
    tell({ type: 'nar-recompressed' });
  }
  const onBytes = (count: number): void => tell({ type: 'bytes-recompressed', bytes: count });
  await eachAtEncoders(rest, signal, async (nar, either) => {
    const written = await compress(nar, { store, folder, format, signal: either, onBytes });
    if (written !== undefined) compressed.push(written);
    tell({ type: 'nar-recompressed' });
  });
  signal.throwIfAborted();
  const { sums, old } = await replaceNars(compressed, { store, folder, catalogue, compression: COMPRESSION });
  return { done: { ...sums, left: nars.length - sums.nars }, old };
}

/** @throws STORE_FULL if the disk has fewer bytes free */
async function assertRoom({ dir }: FileStore, bytes: number): Promise<void> {
  const freeBytes = await freeBytesAt(dir).catch(() => undefined);
  if (freeBytes === undefined || freeBytes >= bytes) return;
  const [needed, free] = [bytes, freeBytes].map((count) => `${(count / 1e6).toFixed(1)} MB`);
  throw new NarswarmError(
    'STORE_FULL',
    `the zstd files need about ${needed} beside the old files, and ${dir} has ${free} left: free some space, or name a smaller part with --root`,
    { facts: { path: dir } },
  );
}

/** Compresses a NAR into the folder. Returns undefined if its file cannot be read, or has other contents. */
async function compress(
  other: OtherNar,
  context: {
    readonly store: FileStore;
    readonly folder: ExportFolder;
    readonly format: NarFormat;
    readonly signal: AbortSignal;
    readonly onBytes: (bytes: number) => void;
  },
): Promise<Compressed | undefined> {
  const { store, folder, signal } = context;
  const { narHash, narSize, infos } = other;
  const [{ compression }] = infos;
  const path = store.narPath(infos[0]);
  const checks = infos.map((info) => ({
    info,
    check: isAddressedBesideNarHash(info) ? contentsCheckOf(info) : undefined,
  }));
  const checked = async function* (): AsyncGenerator<Buffer> {
    for await (const bytes of readContents(path, compression, narSize, signal)) {
      for (const { check } of checks) check?.update(bytes);
      yield bytes;
    }
  };
  try {
    const nar = await folder.write({ narHash, narSize }, checked(), context);
    const fitting = checks.filter(({ check }) => check?.fits() !== false).map(({ info }) => info);
    return nar && { ...other, nar, infos: fitting };
  } catch (error) {
    signal.throwIfAborted();
    if (isNarswarmError(error)) assertIsOfFile(error, path, compression);
    return undefined; // it cannot be published, which the hash map reports
  }
}
