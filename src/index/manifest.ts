/**
 * Signs and reads the manifest, the signed root of a hash map. Its bytes are the text of `manifest-text.ts` and one more
 * line:
 *
 *     Sig: <base64 of ed25519 over "narswarm manifest 1\n" and every byte before this line>
 *
 * The signature proves the publisher and the hash map. `seq`, `created` and `expires` keep an old manifest from passing
 * as the newest: the nodes and mirrors that carry it could hold back or replay signed manifests.
 */
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { MAX_MANIFEST_BYTES } from './format/limits.ts';
import { formatManifestText, parseManifestText } from './format/manifest-text.ts';
import type { Manifest } from './format/manifest-text.ts';
import { verifyEd25519 } from './publisher-key.ts';
import type { PublisherKey } from './publisher-key.ts';

export type { Manifest } from './format/manifest-text.ts';
export type { ListedRoot, Root } from './format/manifest-values.ts';

/** Expectations that a manifest is checked against. */
export interface ManifestExpectation {
  /** The key that must have signed it: 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The salt that it must have. Undefined: any hash map of that publisher is accepted. */
  readonly salt?: string;
  readonly now: Date;
  /** The highest `seq` seen so far. A lower one is refused. Undefined: any `seq` is accepted. */
  readonly lowestSeq?: number;
  /** True to accept an expired manifest, to show it or because there is no newer one. Default: false. */
  readonly allowExpired?: boolean;
}

/** Signed along with the bytes, so that a signature for another purpose does not fit. Later format versions keep it. */
const SIGNED_PREFIX = Buffer.from('narswarm manifest 1\n');
const SIGNATURE_LINE = /^Sig: (\S+)\n$/;
const MAX_CLOCK_SKEW_MS = 24 * 60 * 60 * 1000;

/**
 * Writes and signs a manifest. The same manifest and key give the same bytes.
 *
 * @throws NarswarmError `INDEX_INVALID` (`ADDRESS_INVALID` for the salt) for a manifest that {@link parseManifest}
 *   would refuse at any time.
 */
export function signManifest(manifest: Manifest, key: PublisherKey): Uint8Array {
  const text = formatManifestText(manifest, key.publicKey);
  parseManifestText(text);
  const signed = Buffer.from(text);
  const signature = Buffer.from(key.sign(Buffer.concat([SIGNED_PREFIX, signed]))).toString('base64');
  const bytes = Buffer.concat([signed, Buffer.from(`Sig: ${signature}\n`)]);
  assertSize(bytes);
  return new Uint8Array(bytes);
}

/**
 * Reads a manifest from a stranger. Checks the signature before it looks at the text.
 *
 * @throws NarswarmError `INDEX_SIGNATURE` if it is not signed by that key for that hash map; `INDEX_INVALID` if it is
 *   malformed, too large, of a later version or more than a day from the future; `INDEX_ROLLBACK` for a `seq` below the
 *   lowest; `INDEX_EXPIRED` with the date. Nothing else.
 */
export function parseManifest(bytes: Uint8Array, expected: ManifestExpectation): Manifest {
  assertSize(bytes);
  const signed = verifySignature(bytes, expected.publicKey);
  const { manifest, publicKeyHex } = parseManifestText(decodeText(signed));
  if (publicKeyHex !== Buffer.from(expected.publicKey).toString('hex')) {
    throw forged(`it names another key, ${quote(publicKeyHex)}`);
  }
  if (expected.salt !== undefined && manifest.salt !== expected.salt) {
    throw forged(`it is for the map ${quote(manifest.salt)}, not ${quote(expected.salt)}`);
  }
  assertTimely(manifest, expected);
  return manifest;
}

function assertTimely({ seq, created, expires }: Manifest, expected: ManifestExpectation): void {
  const { now, lowestSeq, allowExpired = false } = expected;
  if (created.getTime() > now.getTime() + MAX_CLOCK_SKEW_MS) {
    const times = `it was made at ${created.toISOString()}, but here it is ${now.toISOString()}`;
    throw new NarswarmError('INDEX_INVALID', `the manifest is from the future: ${times}; check the clock`);
  }
  if (lowestSeq !== undefined && seq < lowestSeq) {
    const message = `the manifest has seq ${seq}, but ${lowestSeq} was seen before: someone serves an old one`;
    throw new NarswarmError('INDEX_ROLLBACK', message, { facts: { seq, lowestSeq } });
  }
  if (!allowExpired && expires <= now) {
    const message = `the manifest expired at ${expires.toISOString()}: its publisher has not renewed it, or it is withheld`;
    throw new NarswarmError('INDEX_EXPIRED', message, { facts: { seq, expires: expires.toISOString() } });
  }
}

/** Returns the bytes that the signature covers. */
function verifySignature(bytes: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = buffer.lastIndexOf('\nSig: ') + 1;
  const [, encoded] = SIGNATURE_LINE.exec(buffer.toString('latin1', end)) ?? [];
  if (end === 0 || encoded === undefined) throw forged('it does not end with a signature, so it may be cut short');
  const signature = Buffer.from(encoded, 'base64');
  const signed = buffer.subarray(0, end);
  const isCanonical = signature.toString('base64') === encoded;
  if (!isCanonical || !verifyEd25519(publicKey, Buffer.concat([SIGNED_PREFIX, signed]), signature)) {
    throw forged(`it is not signed by the key ${Buffer.from(publicKey).toString('hex')}`);
  }
  return signed;
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new NarswarmError('INDEX_INVALID', 'the manifest is not UTF-8', { cause });
  }
}

function assertSize(bytes: Uint8Array): void {
  if (bytes.length <= MAX_MANIFEST_BYTES) return;
  const message = `the manifest has ${bytes.length} bytes, more than ${MAX_MANIFEST_BYTES}`;
  throw new NarswarmError('INDEX_INVALID', message);
}

function forged(reason: string): NarswarmError {
  return new NarswarmError('INDEX_SIGNATURE', `the manifest cannot be trusted: ${reason}`);
}
