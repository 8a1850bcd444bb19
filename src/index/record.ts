/**
 * Makes and reads the records of the hash map: narinfos with added fields, which Nix and other caches ignore.
 *
 *     InfoHash: <40 hex characters, the canonical torrent of the NAR>
 *     Pieces: <base64 of the SHA-1 digests of its pieces, 20 bytes each>
 *
 * For a path that a content-addressed derivation made, a record also has a line for each realisation:
 *
 *     Realisation: <its file in a binary cache> <the JSON in that file>
 *
 * A record may also name patches, which make its NAR out of another one:
 *
 *     Delta: <see delta/record.ts>
 *
 * The torrent follows from FileHash, FileSize, Compression and Pieces. InfoHash is there for people and scripts, and as
 * a check. A narinfo without these fields (its cache gives no FileHash) is a record, too: closure walks need it, and
 * its NAR comes over HTTP.
 */
import { DELTA } from '../delta/record.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import { extraOf, formatNarInfo, withExtra } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { parseRealisation, type Realisation } from '../nix/realisation.ts';
import { quote } from '../nix/quote.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { extensionOf, narTorrent } from '../torrent/canonical.ts';
import type { NarTorrent } from '../torrent/canonical.ts';

const REALISATION = 'Realisation';
/** The added fields. */
export const RECORD_KEYS: ReadonlySet<string> = new Set(['InfoHash', 'Pieces', REALISATION, DELTA]);

/**
 * Adds a torrent to a narinfo. Replaces an earlier one.
 *
 * @throws NarswarmError `INDEX_INVALID` if the torrent is for another file than the narinfo's.
 */
export function toRecord(info: NarInfo, torrent: NarTorrent): NarInfo {
  const pieces = Buffer.from(torrent.pieces).toString('base64');
  const record = withTorrentFields(info, { infoHash: torrent.infoHash, pieces });
  torrentOfRecord(record);
  return record;
}

/** Adds the fields of a torrent, which is not checked. @param torrent.pieces in base64 */
export function withTorrentFields(
  info: NarInfo,
  { infoHash, pieces }: { readonly infoHash: string; readonly pieces: string },
): NarInfo {
  return withExtra(withExtra(info, 'InfoHash', infoHash), 'Pieces', pieces);
}

/**
 * Rebuilds the torrent of a record. Undefined for a narinfo without any added field. The torrent fits the record, but a
 * record is a hint: only the SHA-256 of the whole file proves the NAR.
 *
 * @throws NarswarmError `INDEX_INVALID`, naming the store path: one added field is missing, FileHash or FileSize is
 *   missing, the pieces are malformed or do not fit the size, or InfoHash does not fit the other fields.
 */
export function torrentOfRecord(info: NarInfo): NarTorrent | undefined {
  const infoHash = extraOf(info, 'InfoHash');
  const encodedPieces = extraOf(info, 'Pieces');
  if (infoHash === undefined && encodedPieces === undefined) return undefined;
  const { fileHash, fileSize } = info;
  if (infoHash === undefined) throw unfit(info, 'it has Pieces without InfoHash');
  if (encodedPieces === undefined) throw unfit(info, 'it has InfoHash without Pieces');
  if (fileHash === undefined) throw unfit(info, 'it has no FileHash (sha256)');
  if (fileSize === undefined) throw unfit(info, 'it has no FileSize');
  const pieces = Buffer.from(encodedPieces, 'base64');
  if (pieces.toString('base64') !== encodedPieces) throw unfit(info, 'its Pieces are not base64');

  const torrent = buildTorrent(info, () =>
    narTorrent({ fileHash, extension: extensionOf(info.compression), sizeBytes: fileSize, pieces }),
  );
  if (torrent.infoHash === infoHash) return torrent;
  throw unfit(info, `its InfoHash is ${quote(infoHash)}, but its other fields give ${torrent.infoHash}`);
}

/** Returns a record with these realisations. They replace earlier ones. */
export function withRealisations(info: NarInfo, realisations: readonly Realisation[]): NarInfo {
  const lines = realisations.map(({ file, text }) => [REALISATION, `${file} ${text}`] as const);
  return { ...info, extra: [...withExtra(info, REALISATION, undefined).extra, ...lines] };
}

/** Returns the readable realisations of a record. The caller must check their signatures. */
export function realisationsOf(info: NarInfo): Realisation[] {
  return info.extra.flatMap(([key, value]) => {
    const [, file, text] = /^(\S+) (.*)$/.exec(key === REALISATION ? value : '') ?? [];
    return file === undefined || text === undefined ? [] : (parseRealisation(file, text) ?? []);
  });
}

/**
 * Writes records in the order of their store hashes, separated by empty lines. The same records give the same text, in
 * whatever order they come. `ShardRecords` reads it back.
 *
 * @throws NarswarmError `INDEX_INVALID` for two records of one store hash, `NARINFO_INVALID` for a record that cannot
 *   be written.
 */
export function formatRecords(infos: readonly NarInfo[]): string {
  const byHash = new Map<StoreHash, NarInfo>();
  for (const info of infos) {
    const storeHash = storeHashOf(info.storePath);
    if (byHash.has(storeHash)) {
      throw new NarswarmError('INDEX_INVALID', `two records have the store hash of ${info.storePath}`);
    }
    byHash.set(storeHash, info);
  }
  // Store hashes are ASCII and of one length, so JavaScript sorts them by their bytes.
  const hashes = [...byHash.keys()].toSorted();
  return hashes.map((hash) => formatNarInfo(byHash.get(hash)!)).join('\n');
}

/** Joins the texts of records, in the order of their store hashes, to the text of a shard. */
export function joinRecords(texts: readonly Uint8Array[]): Buffer {
  const joined = Buffer.allocUnsafe(
    texts.reduce((sum, { length }) => sum + length + 1, -1) + (texts.length === 0 ? 1 : 0),
  );
  let at = 0;
  for (const text of texts) {
    if (at > 0) at = joined.writeUInt8(LINE_END, at);
    joined.set(text, at);
    at += text.length;
  }
  return joined;
}

const LINE_END = 0x0a;

/** Adds the store path to errors: the canonical torrent only knows the file. */
function buildTorrent(info: NarInfo, build: () => NarTorrent): NarTorrent {
  try {
    return build();
  } catch (error) {
    if (isNarswarmError(error)) throw unfit(info, error.message, { cause: error });
    throw error;
  }
}

function unfit(info: NarInfo, reason: string, options: { cause?: unknown } = {}): NarswarmError {
  const message = `the record of ${info.storePath} does not give a torrent: ${reason}`;
  return new NarswarmError('INDEX_INVALID', message, { ...options, facts: { path: info.storePath } });
}
