/**
 * Checks bencoded bytes (BEP 3) before `bencode` (4.0.1) decodes them: its decoder reads the length of a string from
 * `-3:`, goes back three bytes, and repeats that until memory runs out.
 */

const [END, COLON] = Buffer.from('e:');

/** A dictionary decoded by `bencode`. */
export type Fields = Readonly<Record<string, unknown>>;

/**
 * Returns the index after the bencoded value at `start` (BEP 3). Throws RangeError if the value is malformed, reaches
 * past the end, or is nested deeper than the stack.
 */
export function endOfValue(bytes: Buffer, start: number): number {
  const kind = bytes.toString('latin1', start, start + 1);
  if (kind === 'i') {
    const end = bytes.indexOf('e', start);
    // `bencode` garbles integers beyond the precision of a double.
    if (!/^-?\d{1,15}$/.test(bytes.toString('latin1', start + 1, end))) throw new RangeError('bad integer');
    return end + 1;
  }
  if (kind !== 'd' && kind !== 'l') return endOfString(bytes, start);
  let at = start + 1;
  while (bytes[at] !== END) {
    if (kind === 'd') at = endOfString(bytes, at);
    at = endOfValue(bytes, at);
  }
  return at + 1;
}

function endOfString(bytes: Buffer, start: number): number {
  const colon = bytes.indexOf(COLON ?? 0, start);
  const digits = bytes.toString('latin1', start, colon);
  const end = colon + 1 + Number(digits);
  if (!/^\d{1,9}$/.test(digits) || end > bytes.length) throw new RangeError('bad string');
  return end;
}

/** Returns true for a decoded dictionary. */
export function isDictionary(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Returns true for a decoded string. */
export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array;
}
