/**
 * Nix's own base 32: no vowels except `a` and `i`, no padding, the last bits first (Nix: src/libutil/base-nix-32.cc).
 */
import { NarswarmError } from '../errors.ts';
import { quote } from './quote.ts';

const ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';
/** Value of each character by its code; others have none. */
const VALUES = Int8Array.from({ length: 128 }, (_, code) => ALPHABET.indexOf(String.fromCharCode(code)));

/** Encodes bytes of any length as `ceil(8 * bytes.length / 5)` characters. Never throws. */
export function encodeNix32(bytes: Uint8Array): string {
  const codes: number[] = []; // not a growing string, which would stay a chain of its parts
  for (let digit = encodedLength(bytes.length) - 1; digit >= 0; digit--) {
    const byte = Math.floor((digit * 5) / 8);
    const shift = (digit * 5) % 8;
    const bits = ((bytes[byte] ?? 0) >> shift) | ((bytes[byte + 1] ?? 0) << (8 - shift));
    codes.push(ALPHABET.charCodeAt(bits & 31));
  }
  return String.fromCharCode(...codes);
}

/**
 * Decodes the output of {@link encodeNix32} and nothing else: every byte string has exactly one spelling.
 *
 * @throws NarswarmError `NIX32_INVALID` for a character outside the alphabet, an impossible length, or bits set beyond
 *   the last byte.
 */
export function decodeNix32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  if (encodedLength(bytes.length) !== text.length) {
    throw invalid(text, `no byte string has ${text.length} characters in nix32`);
  }
  for (let digit = 0; digit < text.length; digit++) {
    const at = text.length - 1 - digit;
    const value = VALUES[text.charCodeAt(at)] ?? -1;
    if (value === -1) throw invalid(text, `${quote(text.charAt(at))} is not one of ${ALPHABET}`);
    const byte = (digit * 5) >> 3;
    const shifted = value << ((digit * 5) & 7);
    bytes[byte]! |= shifted & 0xff;
    const carry = shifted >> 8;
    if (carry === 0) continue;
    if (byte + 1 === bytes.length) throw invalid(text, 'it has bits set beyond its last byte');
    bytes[byte + 1]! |= carry;
  }
  return bytes;
}

function encodedLength(byteCount: number): number {
  return Math.ceil((byteCount * 8) / 5);
}

function invalid(text: string, reason: string): NarswarmError {
  return new NarswarmError('NIX32_INVALID', `${quote(text)} is not nix32: ${reason}`);
}
