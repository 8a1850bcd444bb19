/**
 * RC4 for message stream encryption, without the first 1,024 bytes of the key stream. OpenSSL 3 no longer has RC4. It
 * only hides the protocol from middle boxes and protects nothing, so only its speed matters.
 */
export class Rc4 {
  readonly #state = new Uint8Array(256);
  #i = 0;
  #j = 0;

  constructor(key: Uint8Array) {
    const state = this.#state;
    for (let index = 0; index < 256; index++) state[index] = index;
    let j = 0;
    for (let index = 0; index < 256; index++) {
      j = (j + state[index]! + key[index % key.length]!) & 255;
      const swapped = state[index]!;
      state[index] = state[j]!;
      state[j] = swapped;
    }
    this.apply(new Uint8Array(1024));
  }

  /** Returns the encrypted, or decrypted, bytes in a new buffer. */
  apply(bytes: Uint8Array): Buffer {
    const result = Buffer.allocUnsafe(bytes.length);
    const state = this.#state;
    let i = this.#i;
    let j = this.#j;
    for (let at = 0; at < bytes.length; at++) {
      i = (i + 1) & 255;
      const a = state[i]!;
      j = (j + a) & 255;
      const b = state[j]!;
      state[i] = b;
      state[j] = a;
      result[at] = bytes[at]! ^ state[(a + b) & 255]!;
    }
    this.#i = i;
    this.#j = j;
    return result;
  }
}
