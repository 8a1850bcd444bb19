/**
 * Trust in narinfos: ed25519 signatures over their fingerprint, or a content address that proves the path (Nix:
 * src/libstore/path-info.cc, src/libutil/signature/local-keys.cc).
 */
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { NarswarmError } from '../errors.ts';
import type { StoreHash } from './brands.ts';
import { verifiesContentAddress } from './content-address.ts';
import { contentsCheckOf } from './contents-check.ts';
import type { NarInfo } from './narinfo.ts';
import { quote } from './quote.ts';
import { storeDirOf, storeHashOf } from './store-path.ts';

/** An ed25519 key that verifies signatures, with its name. */
export interface PublicKey {
  readonly name: string;
  readonly key: KeyObject;
  /** Narinfos whose signature by this key is known to be right. Verifying one takes a tenth of a millisecond. */
  readonly verified?: WeakSet<NarInfo>;
}

/** An ed25519 key that signs, with its name, which it puts before its signatures. */
export interface SecretKey {
  readonly name: string;
  readonly key: KeyObject;
}

const PUBLIC_KEY_BYTES = 32;
const SECRET_KEY_BYTES = 64;
const SIGNATURE_BYTES = 64;

/**
 * Returns the text that a signature covers: `1;<store path>;sha256:<nix32 NarHash>;<NarSize>;<references>`. The
 * references are full paths, sorted, without repetition, joined by commas. URL, Compression, FileHash, FileSize,
 * Deriver and CA are not covered.
 */
export function fingerprint(info: NarInfo): string {
  const storeDir = storeDirOf(info.storePath);
  const references = [...new Set(info.references)].toSorted().map((baseName) => `${storeDir}/${baseName}`);
  return `1;${info.storePath};sha256:${info.narHash};${info.narSize};${references.join(',')}`;
}

/** Returns true if the verified signature of one narinfo also covers the facts of another. */
export function isSameNar(other: NarInfo, signed: NarInfo): boolean {
  return other.storePath === signed.storePath && fingerprint(other) === fingerprint(signed);
}

/**
 * Reads `<name>:<base64 of 32 bytes>`, an entry of `trusted-public-keys` or the public file of `nix-store
 * --generate-binary-cache-key`. Trims the text.
 *
 * @throws NarswarmError `KEY_INVALID`. It does not show the key, which may be a secret one in the wrong place.
 */
export function parsePublicKey(text: string): PublicKey {
  const { name, bytes } = parseKey(text, PUBLIC_KEY_BYTES, 'public');
  return { name, key: createPublicKey({ key: jwk(bytes), format: 'jwk' }), verified: new WeakSet() };
}

/**
 * Reads `<name>:<base64 of 64 bytes>`, the seed followed by the public key, as Nix writes secret keys. Trims the text.
 *
 * @throws NarswarmError `KEY_INVALID`, also if the two halves do not belong together. It does not show the key.
 */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = parseKey(text, SECRET_KEY_BYTES, 'secret');
  const publicHalf = bytes.subarray(PUBLIC_KEY_BYTES);
  const d = bytes.subarray(0, PUBLIC_KEY_BYTES).toString('base64url');
  const key = createPrivateKey({ key: { ...jwk(publicHalf), d }, format: 'jwk' });
  if (createPublicKey(key).export({ format: 'jwk' }).x !== jwk(publicHalf).x) {
    throw new NarswarmError('KEY_INVALID', `the secret key ${quote(name)} is damaged: its halves are of two keys`);
  }
  return { name, key };
}

/** Formats the public half of a key for `trusted-public-keys`: `<name>:<base64>`. */
export function formatPublicKey({ name, key }: PublicKey | SecretKey): string {
  const { x = '' } = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' });
  return `${name}:${Buffer.from(x, 'base64url').toString('base64')}`;
}

/** Returns the value of a `Sig` line for this narinfo: `<key name>:<base64>`. */
export function signNarInfo(info: NarInfo, secretKey: SecretKey): string {
  const signature = sign(null, Buffer.from(fingerprint(info)), secretKey.key);
  return `${secretKey.name}:${signature.toString('base64')}`;
}

/**
 * Returns the name of the first key found to have signed this narinfo. Undefined if there is none. Tries a signature
 * only with the keys of its name, and skips malformed ones. Never throws.
 */
export function verifyNarInfo(info: NarInfo, keys: readonly PublicKey[]): string | undefined {
  const known = keys.find(({ verified }) => verified?.has(info));
  if (known !== undefined) return known.name;
  const message = Buffer.from(fingerprint(info));
  for (const { name, bytes } of signaturesOf(info)) {
    for (const key of keys) {
      if (key.name === name && verify(null, message, key.key, bytes)) return name;
    }
  }
  return undefined;
}

/** Does the same in another thread. A signature takes a tenth of a millisecond, in which a server can answer others. */
export async function verifyNarInfoAside(info: NarInfo, keys: readonly PublicKey[]): Promise<string | undefined> {
  const known = keys.find(({ verified }) => verified?.has(info));
  if (known !== undefined) return known.name;
  const message = Buffer.from(fingerprint(info));
  for (const { name, bytes } of signaturesOf(info)) {
    for (const key of keys) {
      if (key.name === name && (await verifyAside(null, message, key.key, bytes))) return name;
    }
  }
  return undefined;
}

const verifyAside = promisify(verify);

/** Returns the key that made the signature of a `Sig` line. Otherwise as {@link judgeSignature}. Never throws. */
export function signerOf(
  text: string,
  message: Uint8Array,
  keys: readonly PublicKey[],
): PublicKey | 'foreign' | 'wrong' {
  const signature = splitSignature(text);
  if (signature === undefined) return 'wrong';
  const named = keys.filter(({ name }) => name === signature.name);
  if (named.length === 0) return 'foreign';
  return named.find(({ key }) => verify(null, message, key, signature.bytes)) ?? 'wrong';
}

/**
 * Judges a `Sig` line: `good` if one of the keys made it, `foreign` if no key has its name, `wrong` if it is malformed
 * or not by the key that it names. Never throws.
 *
 * @param message the {@link fingerprint} of the narinfo
 */
export function judgeSignature(
  text: string,
  message: Uint8Array,
  keys: readonly PublicKey[],
): 'good' | 'foreign' | 'wrong' {
  const signer = signerOf(text, message, keys);
  return typeof signer === 'string' ? signer : 'good';
}

/**
 * Returns true if a narinfo may be given to others: one of the keys has signed it, or its path follows from its content
 * address, against which the contents can be checked here. Never throws.
 */
export function isTrusted(info: NarInfo, keys: readonly PublicKey[]): boolean {
  const isAddressed = verifiesContentAddress(info) && contentsCheckOf(info) !== undefined;
  return isAddressed || verifyNarInfo(info, keys) !== undefined;
}

/**
 * Checks that a narinfo is trusted: its path follows from its content address, or one of the keys has signed it.
 *
 * @param expected the store hash that was requested. Undefined: the narinfo may be for any path
 * @throws NarswarmError `NARINFO_MISMATCH` if the narinfo is for another path than `expected`, otherwise
 *   `NARINFO_UNTRUSTED`. Its message says whether the narinfo has no signature, only signatures by unknown keys
 *   (named), or a wrong signature by a trusted key (altered on the way).
 */
export function assertTrusted(info: NarInfo, keys: readonly PublicKey[], expected?: StoreHash): void {
  const { storePath } = info;
  if (expected !== undefined && storeHashOf(storePath) !== expected) {
    throw new NarswarmError('NARINFO_MISMATCH', `asked for the narinfo of ${expected}, got the one of ${storePath}`, {
      facts: { path: storePath, expected },
    });
  }
  if (verifiesContentAddress(info) || verifyNarInfo(info, keys) !== undefined) return;

  const trusted = new Set(keys.map((key) => key.name));
  const signers = [...new Set(signaturesOf(info).map(({ name }) => name))];
  const forged = signers.filter((name) => trusted.has(name));
  const wayOut = `trusted keys: ${[...trusted].join(', ') || 'none'}; see --trusted-public-key`;
  const fault = (path: string): string => {
    if (forged.length > 0) return `the signature of ${path} by ${list(forged)} is wrong: its narinfo was altered`;
    if (signers.length > 0) return `${path} is signed only by keys not trusted here: ${list(signers)} (${wayOut})`;
    if (info.signatures.length > 0) return `${path} has no well-formed signature (${wayOut})`;
    if (info.ca === undefined) return `${path} is not signed (${wayOut})`;
    return `${path} is not signed, and it is not the path of its content address ${quote(info.ca)} (${wayOut})`;
  };
  throw new NarswarmError('NARINFO_UNTRUSTED', fault(storePath), {
    facts: { path: storePath, signers, why: fault('it') },
  });
}

function signaturesOf(info: NarInfo): { name: string; bytes: Buffer }[] {
  return info.signatures.flatMap((text) => splitSignature(text) ?? []);
}

function list(names: readonly string[]): string {
  return names.map(quote).join(', ');
}

/** Matches names of keys, as people give them. */
const KEY_NAME = /^[\w.+-]{1,64}$/;

function parseKey(text: string, byteCount: number, kind: 'public' | 'secret'): { name: string; bytes: Buffer } {
  const named = splitNamed(text.trim(), byteCount);
  if (named !== undefined) return named;
  const colon = text.indexOf(':');
  const before = text.slice(0, Math.max(colon, 0));
  // A file name given instead of the key is shown. Bytes of a key are not: they may be those of a secret key. Nor is the
  // text of a file that holds something else.
  const shown =
    kind === 'public' && colon < 0 && text.includes('.') ? text.trim() : KEY_NAME.test(before) ? before : '';
  const name = shown === '' ? `a ${kind} key` : `the ${kind} key ${quote(shown)}`;
  throw new NarswarmError('KEY_INVALID', `${name} is malformed: expected <name>:<base64 of ${byteCount} bytes>`);
}

function splitNamed(text: string, byteCount: number): { name: string; bytes: Buffer } | undefined {
  const named = splitName(text);
  const bytes = Buffer.from(named.encoded, 'base64');
  const isCanonical = bytes.length === byteCount && bytes.toString('base64') === named.encoded;
  return named.name !== '' && isCanonical ? { name: named.name, bytes } : undefined;
}

/**
 * Splits a `Sig` line as Nix does (src/libutil/util.cc, base64Decode): padding is optional, and text after it is
 * ignored.
 */
function splitSignature(text: string): { name: string; bytes: Buffer } | undefined {
  const { name, encoded } = splitName(text);
  const [digits = ''] = encoded.split('=', 1);
  const bytes = Buffer.from(digits, 'base64');
  const isBase64 = bytes.length === SIGNATURE_BYTES && bytes.toString('base64').startsWith(digits);
  return name !== '' && isBase64 ? { name, bytes } : undefined;
}

function splitName(text: string): { name: string; encoded: string } {
  const colon = text.indexOf(':');
  return { name: text.slice(0, Math.max(0, colon)), encoded: text.slice(colon + 1) };
}

function jwk(publicKey: Buffer): { kty: string; crv: string; x: string } {
  return { kty: 'OKP', crv: 'Ed25519', x: publicKey.toString('base64url') };
}
