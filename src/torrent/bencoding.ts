/**
 * The check that bencoded bytes (BEP 3) are sound, before `bencode` (4.0.1) sees them: its decoder takes the length of
 * a string from `-3:` and goes back three bytes, for ever, until memory runs out.
 */

const [END, COLON] = Buffer.from('e:');

/** A dictionary as `bencode` decodes it. */
export type Fields = Readonly<Record<string, unknown>>;

/**
 * The index after the bencoded value at `start` (BEP 3). Throws RangeError where that reaches past the end, is
 * malformed, or is nested deeper than the stack.
 */
export function endOfValue(bytes: Buffer, start: number): number {
  const kind = bytes.toString('latin1', start, start + 1);
  if (kind === 'i') {
    const end = bytes.indexOf('e', start);
    // `bencode` garbles integers that a double does not hold.
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

/** True for what a bencoded dictionary decodes to. */
export function isDictionary(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** True for what a bencoded string decodes to. */
export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array;
}
