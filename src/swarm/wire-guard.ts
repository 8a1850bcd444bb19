/** Checks that take the state of a wire. The messages themselves were checked before: src/wire/message-guard.ts. */
import { hash } from 'node:crypto';
import bencode from 'bencode';
import type Wire from 'bittorrent-protocol';
import type { UtMetadata } from 'bittorrent-protocol';
import { endOfValue, isDictionary } from '../torrent/bencoding.ts';
import { MAX_METADATA_BYTES, MAX_READ_BYTES, MAX_READ_PIECE_BYTES, MAX_READ_PIECES } from '../wire/bounds.ts';
import { MAX_IN_FLIGHT_BYTES } from './block-length.ts';
import { PIECE_HASH_BYTES } from '../torrent/canonical.ts';
import { stateOf } from './wire-state.ts';

/** Requests that a peer turns down in a row before it counts as one that has nothing to give. */
const MAX_REFUSALS = 16;

/** Ends a connection at once: nothing more of what came over it is read. */
export function refuse(wire: Wire): void {
  stateOf(wire).connection?.destroy();
  wire._buffer = [];
  wire._bufferSize = 0;
  wire.destroy();
}

/**
 * Has metadata of the right SHA-1 alone decoded: ut_metadata decodes up to 10 MB of a stranger's bencoding before it
 * hashes them.
 */
export function guardMetadata(wire: Wire, infoHash: string): void {
  const extension = wire.ut_metadata;
  const set = extension.setMetadata.bind(extension);
  extension.setMetadata = async (metadata) => {
    // Our own metadata is set from outside, and is a whole .torrent.
    const isFromPeer = metadata === extension.metadata;
    if (!isFromPeer || isSoundMetadata(metadata, infoHash)) return set(metadata);
    refuse(wire);
    return false;
  };
}

function isSoundMetadata(metadata: NonNullable<UtMetadata['metadata']>, infoHash: string): boolean {
  if (metadata.length > MAX_METADATA_BYTES || hash('sha1', metadata, 'hex') !== infoHash) return false;
  try {
    if (endOfValue(Buffer.from(metadata), 0) !== metadata.length) return false;
    const info: unknown = bencode.decode(metadata);
    // WebTorrent allocates a piece as long as whoever made the torrent says.
    const pieceBytes = isDictionary(info) ? info['piece length'] : undefined;
    const isPiece =
      Number.isInteger(pieceBytes) && Number(pieceBytes) > 0 && Number(pieceBytes) <= MAX_READ_PIECE_BYTES;
    return isPiece && isSmall(info as Readonly<Record<string, unknown>>);
  } catch {
    return false;
  }
}

/** A torrent's own claim of its size is not trusted, not even under a publisher's good signature. */
function isSmall({ length, files, pieces }: Readonly<Record<string, unknown>>): boolean {
  const list = Array.isArray(files) ? (files as unknown[]) : [{ length }];
  const totalBytes = list.reduce<number>((sum, file) => sum + lengthOf(file), 0);
  const hasFewPieces = pieces instanceof Uint8Array && pieces.length <= MAX_READ_PIECES * PIECE_HASH_BYTES;
  return hasFewPieces && totalBytes <= MAX_READ_BYTES; // false for what is no number
}

function lengthOf(file: unknown): number {
  const length = isDictionary(file) ? file['length'] : undefined;
  return Number.isInteger(length) && Number(length) >= 0 ? Number(length) : Number.NaN;
}

/** Wraps the handler of PIECE: what nobody asked for is no merit of the peer, and much of it is an attack. */
export function ignoreUnaskedBlocks(
  handle: (index: number, offset: number, block: Uint8Array) => void,
): (index: number, offset: number, block: Uint8Array) => void {
  return function ignoreUnaskedBlock(this: Wire, index, offset, block): void {
    const isAsked = this.requests.some(
      (request) => request.piece === index && request.offset === offset && request.length === block.length,
    );
    if (isAsked) return handle.call(this, index, offset, block);
    const state = stateOf(this);
    state.unaskedBytes += block.length;
    if (state.unaskedBytes > MAX_IN_FLIGHT_BYTES) refuse(this); // blocks on their way when it choked us are fine
  };
}

/** Counts a request that failed. A peer that says it has a piece and turns down every request for it is left alone. */
export function countRefusal(wire: Wire): void {
  const state = stateOf(wire);
  if (wire.destroyed || wire.peerChoking) return; // a choke turns down all that is open (BEP 6)
  if (++state.refusals >= MAX_REFUSALS) wire.destroy();
}
