/** Narinfo, the text record of one store path in a binary cache (Nix: src/libstore/nar-info.cc). */
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { FileHash, NarHash, StorePath } from './brands.ts';
import { asFileHash, asNarHash } from './hash.ts';
import { quote } from './quote.ts';
import { parseBaseName, parseStorePath } from './store-path.ts';

/** The signed part of a narinfo. It is the same from every source, and a NAR is checked against it. */
export interface SignedFields {
  readonly storePath: StorePath;
  readonly narHash: NarHash;
  /** Bytes of the uncompressed NAR, above 0. */
  readonly narSize: number;
  /** Base names, as written: in order, possibly repeated. The path itself may be among them. */
  readonly references: readonly string[];
}

/** How one source stores a NAR. It is unsigned and differs between sources: a hint. NarHash decides. */
export interface FileDescription {
  /** Where the NAR is, relative to the cache, as the cache wrote it: see {@link isSafeNarUrl}. Not empty. */
  readonly url: string;
  /** How the NAR is compressed. Default, and for an empty value: `bzip2`, as in Nix. */
  readonly compression: string;
  /** SHA-256 of the compressed NAR. Absent if the cache gives none, or one of another algorithm. */
  readonly fileHash?: FileHash;
  /** Bytes of the compressed NAR, above 0. Absent if the cache gives none or, as in Nix, gives 0. */
  readonly fileSize?: number;
}

/** Unsigned remarks of a source. Each is checked on its own, and dropped if it is wrong: see `sound-remarks.ts`. */
export interface Remarks {
  /** Base name of the derivation that built the path, if known. */
  readonly deriver?: string;
  /** `<key name>:<base64>`, byte for byte as written. Not checked here. */
  readonly signatures: readonly string[];
  /** The content address, such as `text:sha256:…` or `fixed:r:sha256:…`, as written. */
  readonly ca?: string;
  /** Lines that Nix does not know, in order. Keys may repeat. */
  readonly extra: readonly (readonly [key: string, value: string])[];
}

/** A narinfo: the text record of a store path in one source. */
export interface NarInfo extends SignedFields, FileDescription, Remarks {}

const MAX_LENGTH = 4 * 1024 * 1024;
const KNOWN_KEYS: ReadonlySet<string> = new Set(
  'StorePath URL Compression FileHash FileSize NarHash NarSize References Deriver Sig CA'.split(' '),
);
/** Required lines: a malformed one is an error. */
const REQUIRED_KEYS: ReadonlySet<string> = new Set('StorePath URL NarHash NarSize References'.split(' '));
const KEY_PATTERN = /^[^:\s]+$/;
// oxlint-disable-next-line no-control-regex -- control characters are refused here
const CONTROL_CHARACTER = /[\x00-\x1f\x7f]/;

/**
 * Reads a narinfo of at most 4 MiB. Signed values must be well-formed, and the last line must be ended (it is not if a
 * download was cut short). Ignores malformed unsigned values, since a liar can add them to a good narinfo. As in Nix,
 * the last of repeated keys counts, and a second `References` is refused. Two `CA` lines count as none.
 *
 * @throws NarswarmError `NARINFO_INVALID` and nothing else, with the reason; `facts.line` counts from 1 if one line is
 *   to blame.
 */
export function parseNarInfo(text: string): NarInfo {
  const { fields, signatures, extra } = splitLines(text);

  const optional = <Value>(key: string, parse: (value: string) => Value): Value | undefined => {
    const field = fields.get(key);
    return field === undefined ? undefined : parseField(key, field, parse);
  };
  const required = <Value>(key: string, parse: (value: string) => Value): Value => {
    const field = fields.get(key);
    if (field === undefined) throw corrupt(`${key} is missing`);
    return parseField(key, field, parse);
  };

  const hint = <Value>(key: string, parse: (value: string) => Value): Value | undefined => {
    const field = fields.get(key);
    return field === undefined ? undefined : unlessMalformed(field.value, parse);
  };

  const fileHash = hint('FileHash', asFileHash);
  const fileSize = hint('FileSize', parseSize);
  const deriver = hint('Deriver', parseDeriver);
  const ca = hint('CA', String);
  return {
    storePath: required('StorePath', parseStorePath),
    url: required('URL', parseUrl),
    compression: hint('Compression', String) || 'bzip2',
    ...(fileHash === undefined ? {} : { fileHash }),
    ...(fileSize === undefined || fileSize === 0 ? {} : { fileSize }),
    narHash: required('NarHash', asNarHash),
    narSize: required('NarSize', parseNarSize),
    references: optional('References', parseReferences) ?? [],
    ...(deriver === undefined ? {} : { deriver }),
    signatures,
    ...(ca === undefined || ca === '' ? {} : { ca }),
    extra,
  };
}

/**
 * Writes a narinfo as Nix does: the same order, hashes in nix32, a final newline. Writes the space after the colon even
 * before an empty value: without it, Nix misreads the next line. `extra` follows the lines that Nix knows. {@link
 * parseNarInfo} reads back an equal record.
 *
 * @throws NarswarmError `NARINFO_INVALID` for a value that would break its line.
 */
export function formatNarInfo(info: NarInfo): string {
  const lines: (readonly [key: string, value: string | number])[] = [
    ['StorePath', info.storePath],
    ['URL', info.url],
    ['Compression', info.compression],
  ];
  if (info.fileHash !== undefined) lines.push(['FileHash', `sha256:${info.fileHash}`]);
  if (info.fileSize !== undefined) lines.push(['FileSize', info.fileSize]);
  lines.push(['NarHash', `sha256:${info.narHash}`]);
  lines.push(['NarSize', info.narSize]);
  lines.push(['References', info.references.join(' ')]);
  if (info.deriver !== undefined) lines.push(['Deriver', info.deriver]);
  for (const signature of info.signatures) lines.push(['Sig', signature]);
  if (info.ca !== undefined) lines.push(['CA', info.ca]);
  return [...lines, ...info.extra].map(([key, value]) => formatLine(key, String(value))).join('');
}

/** Returns the value of an added field: the first with that key. Undefined if there is none. */
export function extraOf(info: NarInfo, key: string): string | undefined {
  return info.extra.find(([other]) => other === key)?.[1];
}

/**
 * Returns a copy with an added field set to this value, once; `undefined` removes the field. An existing field keeps
 * its place, a new one comes last.
 *
 * @throws NarswarmError `NARINFO_INVALID` for a key that Nix knows, or a key or value that would break its line.
 */
export function withExtra(info: NarInfo, key: string, value: string | undefined): NarInfo {
  if (KNOWN_KEYS.has(key)) throw malformed(`${key} is not an added field of a narinfo`);
  if (value === undefined) return { ...info, extra: info.extra.filter(([other]) => other !== key) };
  formatLine(key, value);
  const index = info.extra.findIndex(([other]) => other === key);
  if (index < 0) return { ...info, extra: [...info.extra, [key, value]] };
  const after = info.extra.slice(index + 1).filter(([other]) => other !== key);
  return { ...info, extra: [...info.extra.slice(0, index), [key, value], ...after] };
}

/**
 * Returns true if a narinfo's URL can only name a file below its cache, both as a path on disk and as a URL reference.
 * It must be printable ASCII and relative. It must have no scheme, no backslash, no empty, `.` or `..` segment, and no
 * percent-escape of a dot, a slash, a percent sign or a control character. It may have a query string.
 */
export function isSafeNarUrl(url: string): boolean {
  const segments = url.split('/');
  return (
    /^[\x21-\x7e]+$/.test(url) &&
    !url.includes('\\') &&
    !segments.some((segment) => segment === '' || /^\.{1,2}(?:$|[?#])/.test(segment)) &&
    !segments[0]?.includes(':') &&
    !/%(?![0-9a-f]{2})|%(?:2e|2f|5c|25|[01]|7f)/i.test(url)
  );
}

interface Field {
  readonly value: string;
  readonly line: number;
}

function splitLines(text: string): {
  fields: ReadonlyMap<string, Field>;
  signatures: string[];
  extra: [key: string, value: string][];
} {
  if (text.length > MAX_LENGTH) throw corrupt(`it is longer than ${MAX_LENGTH} characters`);
  if (/^\s*</.test(text)) throw corrupt('it is a web page: perhaps a login page, or the URL is not a cache');
  if (!text.endsWith('\n')) throw corrupt('its last line has no end, so it may be cut short');

  const fields = new Map<string, Field>();
  const signatures: string[] = [];
  const extra: [key: string, value: string][] = [];
  for (const [index, content] of text.slice(0, -1).split('\n').entries()) {
    const line = index + 1;
    const colon = content.indexOf(':');
    if (colon < 0) throw corrupt('expected "Key: value"', line);
    const key = content.slice(0, colon);
    const value = content.slice(colon + 2);
    if (!isLine(content, colon)) {
      if (REQUIRED_KEYS.has(key)) throw corrupt('expected "Key: value" without control characters (is it CRLF?)', line);
    } else if (key === 'Sig') signatures.push(value);
    else if (!KNOWN_KEYS.has(key)) extra.push([key, value]);
    else if (key === 'References' && (fields.get(key)?.value ?? '') !== '') throw corrupt(`second ${key}`, line);
    else fields.set(key, { value: key === 'CA' && fields.has(key) ? '' : value, line });
  }
  return { fields, signatures, extra };
}

/** Returns true for `Key: value`. Also for `Key:`, since some editors strip the space before an empty value. */
function isLine(content: string, colon: number): boolean {
  const hasSpace = content.length === colon + 1 || content[colon + 1] === ' ';
  return hasSpace && KEY_PATTERN.test(content.slice(0, colon)) && !CONTROL_CHARACTER.test(content);
}

/** Reads an unsigned value. Undefined if it is malformed. */
function unlessMalformed<Value>(value: string, parse: (value: string) => Value): Value | undefined {
  try {
    return parse(value);
  } catch (error) {
    if (isNarswarmError(error)) return undefined;
    throw error;
  }
}

function parseField<Value>(key: string, { value, line }: Field, parse: (value: string) => Value): Value {
  try {
    return parse(value);
  } catch (error) {
    if (isNarswarmError(error)) throw corrupt(`${key}: ${error.message}`, line, { cause: error });
    throw error;
  }
}

function formatLine(key: string, value: string): string {
  if (!KEY_PATTERN.test(key) || CONTROL_CHARACTER.test(key + value)) {
    throw malformed(`${quote(`${key}: ${value}`)} cannot be a line of a narinfo`);
  }
  return `${key}: ${value}\n`;
}

function parseUrl(value: string): string {
  if (value === '') throw malformed('it is empty');
  return value;
}

function parseSize(value: string): number {
  const sizeBytes = Number(value);
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(sizeBytes)) {
    throw malformed(`${quote(value)} is not a size in bytes`);
  }
  return sizeBytes;
}

function parseNarSize(value: string): number {
  const sizeBytes = parseSize(value);
  if (sizeBytes === 0) throw malformed('no NAR has 0 bytes');
  return sizeBytes;
}

function parseReferences(value: string): string[] {
  return value
    .split(' ')
    .filter((reference) => reference !== '')
    .map(parseBaseName);
}

function parseDeriver(value: string): string | undefined {
  return value === '' || value === 'unknown-deriver' ? undefined : parseBaseName(value);
}

function malformed(message: string): NarswarmError {
  return new NarswarmError('NARINFO_INVALID', message);
}

function corrupt(reason: string, line?: number, options: { cause?: unknown } = {}): NarswarmError {
  const message = `corrupt narinfo: ${reason}`;
  if (line === undefined) return new NarswarmError('NARINFO_INVALID', message, options);
  return new NarswarmError('NARINFO_INVALID', `${message} (line ${line})`, { ...options, facts: { line } });
}
