/** The facts about one NAR in the catalogue, and the line that they are written as. Without I/O. */
import type { FileHash, InfoHash, NarHash, StorePath } from '../../nix/brands.ts';
import { isAddressedBesideNarHash } from '../../nix/content-address.ts';
import { asFileHash } from '../../nix/hash.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { narTorrent, PIECE_HASH_BYTES, pieceLengthOf, type NarTorrent } from '../../torrent/canonical.ts';

/**
 * The reason why a NAR may be offered to others: it was requested by name. The gate considers no NAR without such
 * a line. Paths of an `add` also belong in this machine's own hash map. `substituter`: nobody but Nix has asked for
 * it so far, so it has a limit of its own.
 */
export type AskedBy = 'add' | 'fetch' | 'publish' | 'subscription' | 'substituter';

/** The catalogue's facts about one NAR: enough to rebuild its torrent without reading the file. */
export interface CatalogueEntry {
  readonly storePath: StorePath;
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /**
   * Time of the file's last change when it was hashed, in whole milliseconds. A file with another time is hashed again.
   */
  readonly mtimeMs: number;
  readonly extension: string;
  /** Undefined until the file was read for its pieces. */
  readonly torrent?: EntryTorrent;
  readonly askedBy: AskedBy;
  /**
   * SHA-256 of the decompressed contents, computed here or checked by Nix during an import. Undefined if the contents
   * were never checked: then nobody may get the file.
   */
  readonly narHash?: FoundNarHash;
  /**
   * True if the NAR is not in `nar/`: it is read from its path in this machine's Nix store. The file is then the
   * uncompressed NAR, which was hashed once, and `mtimeMs` is when the path itself last changed ({@link NixNars}).
   */
  readonly isInNix?: boolean;
}

/** The facts about a torrent that do not follow from the rest of its entry. */
export interface EntryTorrent {
  readonly infoHash: InfoHash;
  /** SHA-1 of each piece, concatenated, in base64. */
  readonly pieces: string;
}

/** Result of decompressing a file: its NarHash, or that it does not decompress to at most this many bytes. */
export type FoundNarHash = NarHash | `none:${number}`;

/** Marks a {@link FoundNarHash} without a hash. */
const NONE = 'none:';

/**
 * Adds earlier facts about the same file to an entry: a line with fewer facts removes none. A path that somebody has
 * asked for keeps that mark when Nix asks for it, too.
 */
export function withKnown(line: CatalogueEntry, known: CatalogueEntry | undefined): CatalogueEntry {
  if (known === undefined) return line;
  const entry = isOnlyOfNix(line) ? { ...line, askedBy: known.askedBy } : line;
  if (!isSameFile(known, entry)) return entry;
  const { torrent, narHash } = known;
  return {
    ...entry,
    ...(entry.torrent === undefined && torrent !== undefined && { torrent }),
    ...(entry.narHash === undefined && narHash !== undefined && { narHash }),
  };
}

/** Returns true if nobody but Nix has asked for a NAR. */
export function isOnlyOfNix({ askedBy }: Pick<CatalogueEntry, 'askedBy'>): boolean {
  return askedBy === 'substituter';
}

/** Returns true if `add` put a NAR into the store, or found it there. */
export function isAdded({ askedBy }: Pick<CatalogueEntry, 'askedBy'>): boolean {
  return askedBy === 'add';
}

/** Returns true if two entries are about one file that has not changed in between. */
export function isSameFile(a: FileFacts, b: FileFacts): boolean {
  return (
    a.fileHash === b.fileHash &&
    a.extension === b.extension &&
    a.sizeBytes === b.sizeBytes &&
    a.mtimeMs === b.mtimeMs &&
    a.isInNix === b.isInNix
  );
}

/** Facts that differ if another file has taken a NAR's place. */
export type FileFacts = Pick<CatalogueEntry, 'fileHash' | 'extension' | 'sizeBytes' | 'mtimeMs' | 'isInNix'>;

/**
 * Compares the contents of an entry's file with those signed in a narinfo. Returns `unknown` if they were never
 * checked. The FileHash of an uncompressed file is its NarHash, so its check counts, unless its content address must be
 * checked, too.
 */
export function contentsOf(
  { fileHash, extension, narHash }: CatalogueEntry,
  info: NarInfo,
): 'right' | 'wrong' | 'unknown' {
  const found: string | undefined = extension === '' && !isAddressedBesideNarHash(info) ? fileHash : narHash;
  if (found === undefined) return 'unknown';
  if (found.startsWith(NONE)) return info.narSize > Number(found.slice(NONE.length)) ? 'unknown' : 'wrong';
  return found === info.narHash ? 'right' : 'wrong';
}

/** Returns true if an entry of the Nix store is about the contents that a narinfo names. */
export function isInNixAs(entry: CatalogueEntry, info: NarInfo): boolean {
  const hash: string = entry.fileHash;
  const isNamed = entry.isInNix === true && hash === info.narHash && entry.sizeBytes === info.narSize;
  return isNamed && contentsOf(entry, info) === 'right';
}

/**
 * Makes the entry of a NAR that is read from the Nix store.
 *
 * @param hashed.changedAtMs when its path last changed
 * @param before the entry of its file, or of the path before that change: a check of the same contents still counts
 */
export function inNixEntry(
  { narHash, narSize, changedAtMs }: { narHash: NarHash; narSize: number; changedAtMs: number },
  { storePath, askedBy, narHash: checked }: Pick<CatalogueEntry, 'storePath' | 'askedBy' | 'narHash'>,
): CatalogueEntry {
  const fileHash = asFileHash(narHash);
  const entry = { storePath, fileHash, sizeBytes: narSize, mtimeMs: changedAtMs, extension: '', askedBy };
  return { ...entry, isInNix: true, ...(checked === narHash && { narHash }) };
}

/** Makes the result for a file that does not decompress to at most `maxBytes`. */
export function noContents(maxBytes: number): FoundNarHash {
  return `${NONE}${maxBytes}`;
}

/**
 * Makes the torrent of an entry. Undefined while its pieces are unknown.
 *
 * @throws INDEX_INVALID if the entry's pieces do not fit its size
 */
export function torrentOfEntry({ fileHash, extension, sizeBytes, torrent }: CatalogueEntry): NarTorrent | undefined {
  if (torrent === undefined) return undefined;
  return narTorrent({ fileHash, extension, sizeBytes, pieces: Buffer.from(torrent.pieces, 'base64') });
}

/** Makes the entry of a NAR with unknown pieces: it came over HTTP and no hash map has it. */
export function pendingEntry(
  {
    fileHash,
    sizeBytes,
    extension,
    mtimeMs,
  }: { fileHash: FileHash; sizeBytes: number; extension: string; mtimeMs: number },
  storePath: StorePath,
  askedBy: AskedBy,
): CatalogueEntry {
  return { storePath, fileHash, sizeBytes, mtimeMs, extension, askedBy };
}

/**
 * Makes the entry of a torrent whose file was just hashed or verified.
 *
 * @param narHash NarHash of its contents, if they were checked
 */
export function entryOf(
  torrent: NarTorrent,
  storePath: StorePath,
  mtimeMs: number,
  askedBy: AskedBy,
  narHash?: FoundNarHash,
): CatalogueEntry {
  return {
    storePath,
    fileHash: torrent.fileHash,
    sizeBytes: torrent.sizeBytes,
    mtimeMs,
    extension: torrent.name.split('.nar.')[1] ?? '',
    torrent: { infoHash: torrent.infoHash, pieces: Buffer.from(torrent.pieces).toString('base64') },
    askedBy,
    ...(narHash === undefined ? {} : { narHash }),
  };
}

/** An entry as written to the file. Both texts are empty while the pieces are unknown. */
interface EntryLine extends Omit<CatalogueEntry, 'torrent'>, EntryTorrent {}

/** Formats a line of the catalogue. */
export function formatEntry({ torrent, ...entry }: CatalogueEntry): string {
  const { infoHash = '', pieces = '' } = torrent ?? {};
  return JSON.stringify({ ...entry, infoHash, pieces });
}

/** Parses a line of the catalogue. Leaves out pieces that do not fit. Undefined if the line is malformed. */
export function parseEntry(line: string): CatalogueEntry | undefined {
  if (line === '') return undefined;
  try {
    const read = JSON.parse(line) as EntryLine;
    const { storePath, fileHash, infoHash, sizeBytes, mtimeMs, extension, pieces, askedBy, narHash, isInNix } = read;
    const isWhole =
      typeof storePath === 'string' &&
      typeof infoHash === 'string' &&
      typeof fileHash === 'string' &&
      typeof pieces === 'string' &&
      typeof sizeBytes === 'number' &&
      typeof mtimeMs === 'number' &&
      (narHash === undefined || typeof narHash === 'string');
    if (!isWhole) return undefined;
    if (isInNix === true) {
      const inNix = { storePath, fileHash, sizeBytes, mtimeMs, extension, askedBy, isInNix };
      return narHash === undefined ? inNix : { ...inNix, narHash };
    }
    const torrent = arePiecesOf(sizeBytes, pieces) ? { infoHash, pieces } : undefined;
    // Objects of one shape: a hundred thousand made by spreading take more time and memory.
    if (torrent !== undefined && narHash !== undefined)
      return { storePath, fileHash, sizeBytes, mtimeMs, extension, askedBy, torrent, narHash };
    const entry = { storePath, fileHash, sizeBytes, mtimeMs, extension, askedBy };
    return { ...entry, ...(torrent !== undefined && { torrent }), ...(narHash !== undefined && { narHash }) };
  } catch {
    return undefined; // a line torn by a crash
  }
}

/** Returns true if a text in base64 has one digest for each piece of a file. An older narswarm had longer pieces. */
function arePiecesOf(sizeBytes: number, pieces: string): boolean {
  return pieces.length === 4 * Math.ceil((Math.ceil(sizeBytes / pieceLengthOf(sizeBytes)) * PIECE_HASH_BYTES) / 3);
}

/** Returns true if an entry says nothing new: no other facts about a file, nor that it was asked for or added since. */
export function isSameEntry(known: CatalogueEntry | undefined, entry: CatalogueEntry): boolean {
  if (known === undefined || !isSameFile(known, entry) || isOnlyOfNix(known) !== isOnlyOfNix(entry)) return false;
  if (isAdded(entry) && !isAdded(known)) return false;
  return known.torrent?.infoHash === entry.torrent?.infoHash && known.narHash === entry.narHash;
}
