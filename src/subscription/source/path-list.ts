import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { quote } from '../../nix/quote.ts';
import { parseStorePath, storeDirOf } from '../../nix/store-path.ts';

/** Limit on the size of a decompressed list, in bytes: about two million paths. */
export const MAX_LIST_BYTES = 256 * 1024 * 1024;

const XZ_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);

export interface PathListOptions {
  /** Store directory that all paths must be in. */
  readonly storeDir: string;
  readonly signal?: AbortSignal | undefined;
  /** Default {@link MAX_LIST_BYTES}. */
  readonly maxBytes?: number;
}

/**
 * Reads a list of store paths, one per line. Ignores blank lines, lines that begin with `#`, space around paths, and
 * repetitions. Recognises xz by its first bytes, whatever the name of the file.
 *
 * @param name file or address, for messages
 * @throws NarswarmError `USAGE` naming the line (`facts.line` counts from 1), or for a web page, an empty list, invalid
 *   xz, and more than `maxBytes`; the signal's reason
 */
export async function readPathList(bytes: Uint8Array, name: string, options: PathListOptions): Promise<StorePath[]> {
  const { storeDir, signal, maxBytes = MAX_LIST_BYTES } = options;
  const isXz = XZ_MAGIC.equals(bytes.subarray(0, XZ_MAGIC.length));
  const plain = isXz ? await unpackXz(bytes, name, signal, maxBytes) : bytes;
  if (plain.length > maxBytes) throw refuse(name, `is longer than ${maxBytes} bytes`);
  const text = Buffer.from(plain.buffer, plain.byteOffset, plain.length).toString('utf8');
  if (/^\s*<(?:!doctype|html|\?xml)/i.test(text)) {
    throw refuse(name, 'is a web page, not a list of store paths: check the address');
  }
  const paths = parseLines(text, name, storeDir);
  if (paths.size === 0) throw refuse(name, 'lists no store path: write one per line');
  return [...paths];
}

function parseLines(text: string, name: string, storeDir: string): Set<StorePath> {
  const paths = new Set<StorePath>();
  let number = 0;
  for (const content of linesOf(text)) {
    number++;
    const line = content.trim();
    if (line === '' || line.startsWith('#')) continue;
    const path = storePathOf(line, storeDir);
    if (path === undefined) {
      const reason = `has no path of ${storeDir} in line ${number}: ${quote(line)}`;
      throw refuse(name, reason, { facts: { line: number } });
    }
    paths.add(path);
  }
  return paths;
}

/** Yields the lines of a text. No array can hold those of 256 MB of line breaks: V8 would end the process. */
function* linesOf(text: string): Generator<string> {
  for (let at = 0; at <= text.length;) {
    const end = text.indexOf('\n', at);
    const next = end < 0 ? text.length : end;
    yield text.slice(at, next);
    at = next + 1;
  }
}

function storePathOf(text: string, storeDir: string): StorePath | undefined {
  try {
    const path = parseStorePath(text);
    return storeDirOf(path) === storeDir ? path : undefined;
  } catch (error) {
    if (isNarswarmError(error, 'STORE_PATH_INVALID')) return undefined;
    throw error;
  }
}

/** Decompresses xz. Node has no decoder for it, but every machine with Nix has the program. */
async function unpackXz(
  bytes: Uint8Array,
  name: string,
  signal: AbortSignal | undefined,
  maxBytes: number,
): Promise<Uint8Array> {
  signal?.throwIfAborted();
  const { execa } = await import('execa');
  const result = await execa('xz', ['-dc'], {
    input: bytes,
    encoding: 'buffer',
    maxBuffer: maxBytes,
    stderr: 'pipe',
    reject: false,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  if (result.isCanceled) signal?.throwIfAborted();
  if (!result.failed) return result.stdout;
  if (result.isMaxBuffer) throw refuse(name, `is longer than ${maxBytes} bytes when decompressed`, { cause: result });
  if (result.code === 'ENOENT') throw refuse(name, 'is compressed and there is no `xz` in PATH', { cause: result });
  throw refuse(name, 'is not valid xz: fetch it again, or check the address', { cause: result });
}

function refuse(
  name: string,
  what: string,
  { cause, facts = {} }: { cause?: unknown; facts?: { readonly line?: number } } = {},
): NarswarmError {
  return new NarswarmError('USAGE', `${name} ${what}`, {
    ...(cause === undefined ? {} : { cause }),
    facts: { ...facts, list: name },
  });
}
