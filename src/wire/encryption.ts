/**
 * Message stream encryption (MSE/PE), on the accepting side. Incoming connections may use it, since some clients refuse
 * to talk without it. Outgoing connections are not encrypted, which saves the Diffie-Hellman exchange.
 */
import { createDiffieHellman, hash, randomBytes, randomInt, type DiffieHellman } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ByteReader } from './byte-reader.ts';
import { Rc4 } from './rc4.ts';

/** Both directions of an encrypted connection. */
export interface StreamCipher {
  readonly encrypt: (bytes: Uint8Array) => Buffer;
  readonly decrypt: (bytes: Uint8Array) => Buffer;
}

/** A connection with agreed encryption. */
export interface Agreed {
  readonly infoHash: string;
  /** Undefined if both sides continue without encryption. */
  readonly cipher: StreamCipher | undefined;
  /** Payload that has already arrived, decrypted. */
  readonly head: Buffer;
}

const PRIME =
  'ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563';
const GENERATOR = 2;
const KEY_BYTES = 96;
/** Private keys have 160 bits in this protocol. */
const PRIVATE_KEY_BYTES = 20;
const MAX_PAD_BYTES = 512;
const VERIFICATION = Buffer.alloc(8);
const IN_THE_CLEAR = 1;
const RC4 = 2;

/** Makes a secret with each client. Checks the group once, which takes 50 ms. A secret takes half a millisecond. */
export class KeyExchange {
  #group: DiffieHellman | undefined;

  /**
   * @returns our public key, and the secret shared with the owner of `theirs`. @throws if `theirs` is not a valid key
   */
  agree(theirs: Uint8Array): { readonly ours: Buffer; readonly secret: Buffer } {
    this.#group ??= createDiffieHellman(PRIME, 'hex', GENERATOR);
    this.#group.setPrivateKey(randomBytes(PRIVATE_KEY_BYTES));
    return { ours: padded(this.#group.generateKeys()), secret: padded(this.#group.computeSecret(theirs)) };
  }
}

/**
 * Answers a client that has sent the first bytes of its public key.
 *
 * @param first those bytes
 * @param infoHashOf returns the infohash served here for the SHA-1 of `req2` and itself, in hex
 * @returns undefined if the client wants a torrent that is not here
 * @throws if it breaks the protocol
 */
export async function agreeOnEncryption(
  socket: Socket,
  reader: ByteReader,
  first: Buffer,
  keys: KeyExchange,
  infoHashOf: (hashedInHex: string) => string | undefined,
): Promise<Agreed | undefined> {
  const theirs = Buffer.concat([first, await reader.take(KEY_BYTES - first.length)]);
  const { ours, secret } = keys.agree(theirs);
  socket.write(Buffer.concat([ours, randomBytes(randomInt(MAX_PAD_BYTES + 1))]));

  await reader.skipPast(sha1('req1', secret), MAX_PAD_BYTES);
  const mask = sha1('req3', secret);
  const hashed = (await reader.take(20)).map((byte, at) => byte ^ (mask[at] ?? 0));
  const infoHash = infoHashOf(Buffer.from(hashed).toString('hex'));
  if (infoHash === undefined) return undefined;

  const key = Buffer.from(infoHash, 'hex');
  const incoming = new Rc4(sha1('keyA', secret, key));
  const outgoing = new Rc4(sha1('keyB', secret, key));
  const take = async (bytes: number): Promise<Buffer> => incoming.apply(await reader.take(bytes));
  const offer = await take(VERIFICATION.length + 6);
  if (!VERIFICATION.equals(offer.subarray(0, VERIFICATION.length))) throw new RangeError('the keys differ');
  const methods = offer.readUInt32BE(VERIFICATION.length);
  const padBytes = offer.readUInt16BE(VERIFICATION.length + 4);
  if (padBytes > MAX_PAD_BYTES) throw new RangeError(`${padBytes} bytes of padding`);
  await take(padBytes);
  const early = await take((await take(2)).readUInt16BE(0));

  const method = (methods & IN_THE_CLEAR) !== 0 ? IN_THE_CLEAR : methods & RC4;
  if (method === 0) throw new RangeError('no method of encryption in common');
  const answer = Buffer.alloc(VERIFICATION.length + 6);
  answer.writeUInt32BE(method, VERIFICATION.length);
  socket.write(outgoing.apply(answer));
  const rest = reader.rest();
  if (method === IN_THE_CLEAR) return { infoHash, cipher: undefined, head: Buffer.concat([early, rest]) };
  const cipher = {
    encrypt: (bytes: Uint8Array) => outgoing.apply(bytes),
    decrypt: (bytes: Uint8Array) => incoming.apply(bytes),
  };
  return { infoHash, cipher, head: Buffer.concat([early, cipher.decrypt(rest)]) };
}

/** Returns a number of the exchange with all its bytes, since leading zeros are hashed, too. */
function padded(number: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(KEY_BYTES - number.length), number]);
}

function sha1(name: string, ...parts: readonly Uint8Array[]): Buffer {
  return hash('sha1', Buffer.concat([Buffer.from(name), ...parts]), 'buffer');
}
