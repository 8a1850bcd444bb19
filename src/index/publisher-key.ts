/**
 * The ed25519 key of a publisher. It signs the manifest and the DHT item (BEP 44). It is kept as a PEM file (PKCS #8),
 * which `openssl pkey -in <file> -pubout` and every key vault can read.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError } from '../errors.ts';

/** A publisher. Its key may not be in its file yet. */
export interface PublisherIdentity {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Returns the key that signs. Writes a new key to its file first: a lost key must not have signed anything. */
  signer(): Promise<PublisherKey>;
}

/** A key that signs. Its secret half is never exposed. */
export interface PublisherKey extends PublisherIdentity {
  /** Returns the 64 bytes of the signature. The same message always gives the same bytes (RFC 8032). */
  sign(message: Uint8Array): Uint8Array;
}

/** A key read from a file. */
export interface LoadedPublisherKey extends PublisherKey {
  /** True if other users have any right to the file. It deserves a warning; `chmod 600` fixes it. */
  readonly tooOpen: boolean;
}

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** The bytes before the 32 bytes of the seed in PKCS #8 (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** A new key that is not in a file yet, and so cannot sign. */
interface NewPublisherKey extends Pick<PublisherKey, 'publicKey'> {
  /**
   * Writes the key and returns it. Only the owner can read the file (0600). Makes missing parent folders (0700). Never
   * overwrites a file: followers know the publisher by its key and cannot be told about a new one.
   *
   * @throws NarswarmError `KEY_INVALID`, naming the file, if it exists or cannot be written.
   */
  save(file: string): Promise<PublisherKey>;
}

/** Makes a new key. */
export function generatePublisherKey(): NewPublisherKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = String(privateKey.export({ format: 'pem', type: 'pkcs8' }));
  const key = publisherKey(privateKey);
  return { publicKey: key.publicKey, save: (file) => writeKeyFile(file, pem).then(() => key) };
}

/** Makes a new key and saves it. @throws as {@link NewPublisherKey.save} */
export async function createPublisherKey(file: string): Promise<PublisherKey> {
  return generatePublisherKey().save(file);
}

async function writeKeyFile(file: string, pem: string): Promise<void> {
  try {
    await makeFolder(dirname(file), 0o700);
    await using handle = await open(file, 'wx', 0o600);
    await handle.writeFile(pem);
    await handle.sync();
  } catch (cause) {
    const exists = codeOf(cause) === 'EEXIST';
    const reason = exists ? 'the file exists and is never overwritten' : messageOf(cause);
    throw new NarswarmError('KEY_INVALID', `cannot write a new publisher key to ${file}: ${reason}`, { cause });
  }
}

/**
 * Reads a key that {@link createPublisherKey} or openssl wrote.
 *
 * @throws NarswarmError naming the file: `NOT_FOUND` if it does not exist, `KEY_INVALID` if it cannot be read or has
 *   anything but one ed25519 key without a passphrase. The error never shows its contents.
 */
export async function loadPublisherKey(file: string): Promise<LoadedPublisherKey> {
  const { pem, mode } = await readKeyFile(file);
  const key = parsePem(file, pem);
  return { ...publisherKey(key), tooOpen: (mode & 0o077) !== 0 };
}

/**
 * Makes the key of a 32-byte seed (RFC 8032): for tests, which need the same key each time.
 *
 * @throws NarswarmError `KEY_INVALID` for a seed of another length.
 */
export function publisherKeyFromSeed(seed: Uint8Array): PublisherKey {
  if (seed.length !== KEY_BYTES) {
    throw new NarswarmError('KEY_INVALID', `the seed of a key has ${KEY_BYTES} bytes, this one has ${seed.length}`);
  }
  return publisherKey(createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' }));
}

/** Verifies a signature of a message. Never throws: returns false for malformed keys and signatures. */
export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
}

function publisherKey(privateKey: KeyObject): PublisherKey {
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  const key: PublisherKey = {
    publicKey: new Uint8Array(Buffer.from(x, 'base64url')),
    sign: (message) => new Uint8Array(sign(null, message, privateKey)),
    signer: () => Promise.resolve(key),
  };
  return key;
}

async function readKeyFile(file: string): Promise<{ pem: string; mode: number }> {
  try {
    await using handle = await open(file);
    const { mode } = await handle.stat();
    return { pem: await handle.readFile('utf8'), mode };
  } catch (cause) {
    const code = codeOf(cause) === 'ENOENT' ? 'NOT_FOUND' : 'KEY_INVALID';
    throw new NarswarmError(code, `cannot read the publisher key ${file}: ${messageOf(cause)}`, { cause });
  }
}

function parsePem(file: string, pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw new NarswarmError(
      'KEY_INVALID',
      `${file} does not hold a secret key in PEM without a passphrase: name another file with --key, or one that does not exist yet, to make a key there`,
      { cause },
    );
  }
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new NarswarmError('KEY_INVALID', `${file} holds a key of type ${key.asymmetricKeyType}, not ed25519`);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
