/**
 * The address of a publisher's hash map: the key that signs it, and its name (salt) among the publisher's maps. A
 * magnet link (BEP 46) names a mutable item of the DHT (BEP 44); a URL also names an HTTP mirror of the hash map.
 */
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { shownAddress } from '../redact.ts';

export interface PublisherAddress {
  /** The publisher's ed25519 key: 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The public key as 64 lower-case hex characters. */
  readonly publicKeyHex: string;
  /** The name of the hash map, at most {@link MAX_SALT_BYTES} bytes of UTF-8. Often empty. */
  readonly salt: string;
  /** URL of an HTTP mirror, without a trailing slash. */
  readonly baseUrl?: string;
  /** Name that the user has given it (`dn`, as in magnet links of torrents). It is for people alone. */
  readonly label?: string;
}

/** Limit on the salt of a mutable item (BEP 44). */
export const MAX_SALT_BYTES = 64;

const EXPECTED =
  'expected magnet:?xs=urn:btpk:<64 hex characters>&s=<salt in hex> ' +
  'or https://<host>/<path>?xs=urn:btpk:<64 hex characters>&s=<salt in hex>';

/**
 * Reads an address in either form. Without `s` the salt is empty. Ignores parameters other than `xs`, `s` and `dn`, and
 * the fragment.
 *
 * @throws NarswarmError `ADDRESS_INVALID`, naming the text and showing both forms.
 */
export function parsePublisherAddress(text: string): PublisherAddress {
  const url = URL.parse(text);
  if (url === null) throw invalid(text, 'it is not a URL');
  const publicKey = parseKey(text, onlyParameter(text, url, 'xs'));
  const salt = parseSalt(text, onlyParameter(text, url, 's') ?? '');
  const label = url.searchParams.get('dn') ?? '';
  const publicKeyHex = Buffer.from(publicKey).toString('hex');
  const address = { publicKey, publicKeyHex, salt, ...(label === '' ? {} : { label }) };
  if (url.protocol === 'magnet:') return address;
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(text, `it has the scheme ${url.protocol}`);
  url.search = '';
  url.hash = '';
  return { ...address, baseUrl: url.href.replace(/\/+$/, '') };
}

/**
 * Writes an address: as a URL if it has a `baseUrl`, otherwise as a magnet link. {@link parsePublisherAddress} reads
 * back the same address, without the label.
 *
 * @throws NarswarmError `ADDRESS_INVALID` for a salt that BEP 44 does not allow.
 */
export function formatPublisherAddress(address: Pick<PublisherAddress, 'publicKeyHex' | 'salt' | 'baseUrl'>): string {
  const salt = address.salt === '' ? '' : `&s=${saltBytes(address.salt).toString('hex')}`;
  const before = address.baseUrl === undefined ? 'magnet:' : `${address.baseUrl}/`;
  return `${before}?xs=urn:btpk:${address.publicKeyHex}${salt}`;
}

/**
 * Returns the bytes of a salt, as the DHT hashes and signs them.
 *
 * @throws NarswarmError `ADDRESS_INVALID` for more than {@link MAX_SALT_BYTES} bytes, or for text that UTF-8 cannot
 *   encode.
 */
export function saltBytes(salt: string): Buffer {
  const bytes = Buffer.from(salt);
  if (!salt.isWellFormed() || bytes.length > MAX_SALT_BYTES) {
    throw new NarswarmError('ADDRESS_INVALID', `a salt has at most ${MAX_SALT_BYTES} bytes of UTF-8: ${quote(salt)}`);
  }
  return bytes;
}

/** Returns the name of the folders for this hash map: the key and the salt, in hex. */
export function mapFolder(address: Pick<PublisherAddress, 'publicKeyHex' | 'salt'>): string {
  return `${address.publicKeyHex}-${saltBytes(address.salt).toString('hex') || '0'}`;
}

/**
 * Reads a salt from hex.
 *
 * @returns undefined unless it is the hex of at most {@link MAX_SALT_BYTES} bytes of UTF-8
 */
export function saltFromHex(hex: string): string | undefined {
  const bytes = Buffer.from(hex, 'hex');
  const salt = bytes.toString();
  const isUtf8 = Buffer.from(salt).equals(bytes);
  const isHex = bytes.toString('hex') === hex.toLowerCase();
  return isHex && isUtf8 && bytes.length <= MAX_SALT_BYTES ? salt : undefined;
}

function onlyParameter(text: string, url: URL, name: string): string | undefined {
  const [value, second] = url.searchParams.getAll(name);
  if (second !== undefined) throw invalid(text, `it has more than one ${name}`);
  return value;
}

function parseKey(text: string, value: string | undefined): Uint8Array {
  const [, hex] = /^urn:btpk:([0-9a-f]{64})$/i.exec(value ?? '') ?? [];
  if (hex === undefined) throw invalid(text, 'xs is not a public key');
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function parseSalt(text: string, hex: string): string {
  const salt = saltFromHex(hex);
  if (salt === undefined) throw invalid(text, `s is not the hex of at most ${MAX_SALT_BYTES} bytes of UTF-8`);
  return salt;
}

function invalid(text: string, reason: string): NarswarmError {
  return new NarswarmError(
    'ADDRESS_INVALID',
    `${quote(shownAddress(text))} is not the address of a hash map, ${reason}: ${EXPECTED}`,
  );
}
