/** Reads hashes in every spelling of Nix. Keeps them in one: nix32 without a prefix (Nix: src/libutil/hash.cc). */
/* oxlint-disable typescript/no-unsafe-type-assertion -- brands are given here, after the check */
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { FileHash, NarHash } from './brands.ts';
import { decodeNix32, encodeNix32 } from './nix32.ts';
import { quote } from './quote.ts';

/** Digest sizes in bytes of the algorithms of Nix. */
const DIGEST_BYTES = { md5: 16, sha1: 20, sha256: 32, sha512: 64, blake3: 32 } as const;

/** A SHA-256 in nix32: the first character has one bit. To decode one only to check it takes thirty times as long. */
const NIX32_SHA256 = /^[01][0-9a-df-np-sv-z]{51}$/;
const SHA256_PREFIX = 'sha256:';

/** A hash algorithm, by its name in Nix. */
export type HashAlgorithm = keyof typeof DIGEST_BYTES;

/**
 * Reads `<algorithm>:<nix32 | hex | base64>`, SRI `<algorithm>-<base64>`, or the bare digits of a SHA-256. As in Nix,
 * the length decides the encoding. Base64 must be padded and canonical.
 *
 * @throws NarswarmError `HASH_INVALID`, naming the text.
 */
export function parseHash(text: string): { readonly algorithm: HashAlgorithm; readonly digest: Uint8Array } {
  const [, algorithm = 'sha256', separator, digits = ''] = /^(?:([a-z0-9]+)([:-]))?(.*)$/s.exec(text) ?? [];
  if (!isAlgorithm(algorithm)) {
    throw invalid(text, `the algorithm must be one of ${Object.keys(DIGEST_BYTES).join(', ')}`);
  }
  const digest = decodeDigest(text, digits, DIGEST_BYTES[algorithm], separator === '-');
  if (digest === undefined) {
    const encodings = separator === '-' ? 'base64' : 'nix32, hex or base64';
    throw invalid(text, `expected ${DIGEST_BYTES[algorithm]} bytes of ${algorithm} in ${encodings}`);
  }
  return { algorithm, digest };
}

/**
 * Reads a SHA-256 in any spelling of {@link parseHash}. Returns its 52 nix32 characters.
 *
 * @throws NarswarmError `HASH_INVALID`, naming the text.
 */
export function parseSha256(text: string): string {
  const plain = text.startsWith(SHA256_PREFIX) ? text.slice(SHA256_PREFIX.length) : text;
  if (NIX32_SHA256.test(plain)) return plain;
  const { algorithm, digest } = parseHash(text);
  if (algorithm !== 'sha256') throw invalid(text, `expected sha256, not ${algorithm}`);
  return encodeNix32(digest);
}

/** Reads the SHA-256 of a NAR file as stored and sent. Throws as {@link parseSha256}. */
export function asFileHash(text: string): FileHash {
  return parseSha256(text) as FileHash;
}

/** Reads the SHA-256 of an uncompressed NAR. Throws as {@link parseSha256}. */
export function asNarHash(text: string): NarHash {
  return parseSha256(text) as NarHash;
}

/** Returns the 32 bytes of a hash. */
export function sha256Bytes(hash: FileHash | NarHash): Uint8Array {
  return decodeNix32(hash);
}

/** Makes a FileHash from a raw SHA-256 digest. Throws `HASH_INVALID` unless it has 32 bytes. */
export function fileHashOf(digest: Uint8Array): FileHash {
  return encodeSha256(digest) as FileHash;
}

/** Makes a NarHash from a raw SHA-256 digest. Throws `HASH_INVALID` unless it has 32 bytes. */
export function narHashOf(digest: Uint8Array): NarHash {
  return encodeSha256(digest) as NarHash;
}

function encodeSha256(digest: Uint8Array): string {
  if (digest.length !== DIGEST_BYTES.sha256) {
    throw new NarswarmError('HASH_INVALID', `a SHA-256 digest has 32 bytes, this one has ${digest.length}`);
  }
  return encodeNix32(digest);
}

function isAlgorithm(name: string): name is HashAlgorithm {
  return Object.hasOwn(DIGEST_BYTES, name);
}

function decodeDigest(text: string, digits: string, byteCount: number, isSri: boolean): Uint8Array | undefined {
  if (digits.length === 4 * Math.ceil(byteCount / 3)) return decodeBase64(digits, byteCount);
  if (isSri) return undefined;
  if (digits.length === 2 * byteCount) {
    return /^[0-9a-f]+$/i.test(digits) ? Buffer.from(digits, 'hex') : undefined;
  }
  if (digits.length !== Math.ceil((8 * byteCount) / 5)) return undefined;
  try {
    return decodeNix32(digits);
  } catch (error) {
    if (isNarswarmError(error, 'NIX32_INVALID')) throw invalid(text, error.message, { cause: error });
    throw error;
  }
}

/**
 * Decodes canonical base64 only: Node's decoder skips unknown characters, so the result is encoded again and compared.
 */
function decodeBase64(text: string, byteCount: number): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === byteCount && bytes.toString('base64') === text ? bytes : undefined;
}

function invalid(text: string, reason: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('HASH_INVALID', `${quote(text)} is not a valid hash: ${reason}`, options);
}
