/** Range and Content-Range (RFC 9110, 14): pure. Ends are exclusive here and inclusive on the wire. */

export interface ContentRange {
  /** Offset of the body's first byte. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** Size of the whole file. Undefined if the server wrote `*`. */
  readonly sizeBytes: number | undefined;
}

/** Formats [start, end) as `bytes=a-b`, or as `bytes=a-` if `end` is Infinity. */
export function formatRange(start: number, end: number): string {
  return `bytes=${start}-${end === Infinity ? '' : end - 1}`;
}

/** Reads the Content-Range of a 206. Undefined if it is missing, malformed, empty or not in bytes. */
export function parseContentRange(value: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(value ?? '');
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  const sizeBytes = match[3] === '*' ? undefined : Number(match[3]);
  if (end <= start || (sizeBytes !== undefined && end > sizeBytes)) return undefined;
  return { start, end, sizeBytes };
}

/** Reads a Content-Length. Undefined if it is missing or malformed. */
export function parseContentLength(value: string | undefined): number | undefined {
  return /^\d{1,15}$/.test(value ?? '') ? Number(value) : undefined;
}
