/**
 * The lines of a record in the hash map that name patches (format.ts), at most {@link MAX_DELTAS}:
 *
 *     Delta: 1 <base name of the base's store path> <NarHash of the base> <NarSize of the base> <FileSize> <FileHash>
 *       <InfoHash> <Pieces>
 *
 * in one line, with single spaces. `1` is the version of the format: lines of another version are ignored, and earlier
 * versions of this program ignore all of them. Hashes are written as in a narinfo, such as `sha256:<nix32>`. FileSize, FileHash, InfoHash
 * and Pieces describe the patch, as these fields of a record describe a NAR (index/record.ts). Its file is named
 * `<FileHash>.nar.delta`.
 */
import type { NarHash } from '../nix/brands.ts';
import { asFileHash, asNarHash } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { withExtra } from '../nix/narinfo.ts';
import { parseBaseName } from '../nix/store-path.ts';
import { narTorrent, type NarTorrent } from '../torrent/canonical.ts';
import { unlessInvalid } from './unless-invalid.ts';

/** The file name extension of a patch. */
export const PATCH_EXTENSION = 'delta';
/** Patches of one path. */
export const MAX_DELTAS = 4;

/** Key of the lines. */
export const DELTA = 'Delta';
const VERSION = '1';

/** A patch that makes the NAR of a path out of the NAR of another one. */
export interface Delta {
  /** Base name of the base's store path. */
  readonly baseName: string;
  readonly baseNarHash: NarHash;
  readonly baseNarSize: number;
  readonly torrent: NarTorrent;
}

/** Adds deltas to a record. They replace earlier ones. */
export function withDeltas(record: NarInfo, deltas: readonly Delta[]): NarInfo {
  const lines = deltas.slice(0, MAX_DELTAS).map((delta) => [DELTA, formatDelta(delta)] as const);
  return { ...record, extra: [...withExtra(record, DELTA, undefined).extra, ...lines] };
}

/** Returns the readable deltas of a record. They are hints: only NarHash proves what a patch gives. */
export function deltasOf(record: NarInfo): Delta[] {
  const lines = record.extra.filter(([key]) => key === DELTA).slice(0, MAX_DELTAS);
  return lines.flatMap(([, value]) => unlessInvalid(() => parseDelta(value)) ?? []);
}

function formatDelta({ baseName, baseNarHash, baseNarSize, torrent }: Delta): string {
  const { sizeBytes, fileHash, infoHash } = torrent;
  const pieces = Buffer.from(torrent.pieces).toString('base64');
  return [
    VERSION,
    baseName,
    `sha256:${baseNarHash}`,
    baseNarSize,
    sizeBytes,
    `sha256:${fileHash}`,
    infoHash,
    pieces,
  ].join(' ');
}

function parseDelta(text: string): Delta | undefined {
  const [version, name = '', baseHash = '', baseSize = '', size = '', hash = '', infoHash, pieces = '', ...rest] =
    text.split(' ');
  if (version !== VERSION || rest.length > 0 || !/^[1-9]\d{0,14}$/.test(baseSize) || !/^[1-9]\d{0,14}$/.test(size))
    return undefined;
  const torrent = narTorrent({
    fileHash: asFileHash(hash),
    extension: PATCH_EXTENSION,
    sizeBytes: Number(size),
    pieces: Buffer.from(pieces, 'base64'),
  });
  if (torrent.infoHash !== infoHash) return undefined;
  return {
    baseName: parseBaseName(name),
    baseNarHash: asNarHash(baseHash),
    baseNarSize: Number(baseSize),
    torrent,
  };
}
