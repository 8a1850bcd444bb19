/** Reads and checks mutable items of the DHT (BEP 44) that point to a torrent (BEP 46). */
import { createHash, createPublicKey, verify } from 'node:crypto';
import bencode from 'bencode';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { isBytes, isDictionary, type Fields } from '../torrent/bencoding.ts';

const MAX_SALT_BYTES = 64;

/** A mutable item (BEP 44) with a valid signature of the requested key. */
export interface MutableItem {
  /** Edition of the value. Later ones are higher. */
  readonly seq: number;
  /** The value, bencoded, as signed. */
  readonly value: Uint8Array;
  /** The torrent that the value points to (BEP 46). Undefined unless it is a dictionary with a 20-byte `ih`. */
  readonly infoHash: InfoHash | undefined;
  /** 64 bytes. Anyone can use it to put the item again and so keep it from expiring. */
  readonly signature: Uint8Array;
}

/** A pointer to a torrent (BEP 46), to be signed and stored. */
export interface MutablePut {
  /** Raw ed25519 key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Distinguishes the items of one key: at most 64 bytes, may be empty. */
  readonly salt: Uint8Array;
  /** Must increase with every new `infoHash`. The same pair may be put again at any time. */
  readonly seq: number;
  readonly infoHash: InfoHash;
  /** Returns the 64-byte signature of `message`. To put another publisher's item again, return its signature. */
  readonly sign: (message: Uint8Array) => Uint8Array;
}

/** The answers to one search for an item: the newest valid one, and the number of nodes that gave it. */
export class MutableAnswers {
  newest: MutableItem | undefined;
  /** Nodes that answered with {@link newest}. */
  holders = 0;
  readonly #publicKey: Uint8Array;
  readonly #salt: Uint8Array;
  readonly #onNewer: (seq: number) => void;

  /** @param onNewer called with the seq of each answer that is newer than all before */
  constructor(publicKey: Uint8Array, salt: Uint8Array, onNewer: (seq: number) => void) {
    this.#publicKey = publicKey;
    this.#salt = salt;
    this.#onNewer = onNewer;
  }

  /** Takes an answer. Returns false if it is for another item or wrongly signed. */
  readonly take = (signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean => {
    const item = isEqual(key, this.#publicKey) ? readSigned(message, this.#salt) : undefined;
    if (item === undefined || !isSignedBy(signature, message, key)) return false;
    const { newest } = this;
    if (newest?.seq === item.seq && isEqual(newest.value, item.value)) this.holders++;
    if (newest === undefined || item.seq > newest.seq) {
      this.newest = { ...item, signature: Uint8Array.from(signature) };
      this.holders = 1;
      this.#onNewer(item.seq);
    }
    return true;
  };
}

/** Returns the place of the item: SHA-1 of key and salt (BEP 44). @throws USAGE for sizes that BEP 44 does not allow */
export function targetOf(publicKey: Uint8Array, salt: Uint8Array): Buffer {
  if (publicKey.length !== 32) {
    throw new NarswarmError('USAGE', `an ed25519 public key has 32 bytes, this one has ${publicKey.length}`);
  }
  if (salt.length > MAX_SALT_BYTES) {
    throw new NarswarmError('USAGE', `a salt has at most ${MAX_SALT_BYTES} bytes, this one has ${salt.length}`);
  }
  return createHash('sha1').update(publicKey).update(salt).digest();
}

/**
 * Returns the message that BEP 44 signs: `4:salt<length>:<salt>3:seqi<seq>e1:v<bencoded value>`, without the salt if it
 * is empty.
 */
export function signedMessage(salt: Uint8Array, seq: number, value: Uint8Array): Buffer {
  const salted = salt.length > 0 ? [Buffer.from(`4:salt${salt.length}:`), salt] : [];
  return Buffer.concat([...salted, Buffer.from(`3:seqi${seq}e1:v`), value]);
}

/** Reads {@link signedMessage} back. Undefined if it has another salt. */
function readSigned(message: Uint8Array, salt: Uint8Array): Omit<MutableItem, 'signature'> | undefined {
  const { seq, v } = bencode.decode(Buffer.concat([Buffer.from('d'), message, Buffer.from('e')])) as Fields;
  if (typeof seq !== 'number') return undefined;
  const head = signedMessage(salt, seq, Buffer.alloc(0));
  if (!isEqual(message.subarray(0, head.length), head)) return undefined;
  const ih = isDictionary(v) ? v['ih'] : undefined;
  const infoHash = isBytes(ih) && ih.length === 20 ? (Buffer.from(ih).toString('hex') as InfoHash) : undefined;
  return { seq, value: Uint8Array.from(message.subarray(head.length)), infoHash };
}

/** Returns true if `signature` is a signature of `message` by a raw ed25519 key. Never throws, even for wrong sizes. */
export function isSignedBy(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
}

/** Returns true for the same bytes. */
export function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
