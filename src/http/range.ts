/** Range and Content-Range (RFC 9110, 14): pure. Ends are exclusive here and inclusive on the wire. */

export interface ContentRange {
  /** Offset of the body's first byte. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** Size of the whole file; undefined where the server wrote `*`. */
  readonly sizeBytes: number | undefined;
}

/** `bytes=a-b` for [start, end); `bytes=a-` where `end` is Infinity. */
export function formatRange(start: number, end: number): string {
  return `bytes=${start}-${end === Infinity ? '' : end - 1}`;
}

/** Reads a 206's Content-Range; undefined where it is missing, malformed, empty or not in bytes. */
export function parseContentRange(value: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(value ?? '');
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  const sizeBytes = match[3] === '*' ? undefined : Number(match[3]);
  if (end <= start || (sizeBytes !== undefined && end > sizeBytes)) return undefined;
  return { start, end, sizeBytes };
}

/** Reads a Content-Length; undefined where it is missing or malformed. */
export function parseContentLength(value: string | undefined): number | undefined {
  return /^\d{1,15}$/.test(value ?? '') ? Number(value) : undefined;
}
