/**
 * A record of the hash map: a narinfo with added fields, which Nix and other caches pass over.
 *
 *     InfoHash: <40 hex characters, the canonical torrent of the NAR>
 *     Pieces: <base64 of the SHA-1 digests of its pieces, 20 bytes each>
 *
 * and, of a path that a content-addressed derivation made, one line for each realisation of it:
 *
 *     Realisation: <its file in a binary cache> <the JSON in that file>
 *
 * The torrent follows from FileHash, FileSize, Compression and Pieces; InfoHash is there to be read by people and
 * scripts, and to be checked against. A narinfo without the two (a cache that gives no FileHash) is a record too: the
 * closure walk needs it, its NAR comes over HTTP.
 */
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
export const RECORD_KEYS: ReadonlySet<string> = new Set(['InfoHash', 'Pieces', REALISATION]);

/**
 * Adds a torrent to a narinfo, in the place of one that it may have.
 *
 * @throws NarswarmError `INDEX_INVALID` if the torrent is of another file than the narinfo's.
 */
export function toRecord(info: NarInfo, torrent: NarTorrent): NarInfo {
  const pieces = Buffer.from(torrent.pieces).toString('base64');
  const record = withExtra(withExtra(info, 'InfoHash', torrent.infoHash), 'Pieces', pieces);
  torrentOfRecord(record);
  return record;
}

/**
 * Rebuilds the torrent of a record, or gives undefined for a narinfo that has none of the added fields. What comes
 * out fits the record, but a record is a hint: only the sha256 of the whole file says that the NAR is right.
 *
 * @throws NarswarmError `INDEX_INVALID`, naming the store path: one added field is without the other, FileHash or
 *   FileSize is missing, the pieces are malformed or not as many as the size asks for, or InfoHash is another.
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

/** A record with these realisations, instead of those that it may have. */
export function withRealisations(info: NarInfo, realisations: readonly Realisation[]): NarInfo {
  const lines = realisations.map(({ file, text }) => [REALISATION, `${file} ${text}`] as const);
  return { ...info, extra: [...withExtra(info, REALISATION, undefined).extra, ...lines] };
}

/** The realisations of a record that can be read. Their signatures are the caller's to check. */
export function realisationsOf(info: NarInfo): Realisation[] {
  return info.extra.flatMap(([key, value]) => {
    const [, file, text] = /^(\S+) (.*)$/.exec(key === REALISATION ? value : '') ?? [];
    return file === undefined || text === undefined ? [] : (parseRealisation(file, text) ?? []);
  });
}

/**
 * Writes records in the order of their store hashes, an empty line between two. The same records give the same text,
 * in whatever order they come; `ShardRecords` reads it back.
 *
 * @throws NarswarmError `INDEX_INVALID` for two records of one store hash, `NARINFO_INVALID` for one that cannot be
 *   written.
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
  // Store hashes are ASCII and of one length, so the order of JavaScript is the order of their bytes.
  const hashes = [...byHash.keys()].toSorted();
  return hashes.map((hash) => formatNarInfo(byHash.get(hash)!)).join('\n');
}

/** The canonical torrent knows the file only; who reads the error wants the store path. */
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
