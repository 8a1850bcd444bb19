import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { contentsCheckOf } from '../../nix/contents-check.ts';
import { noContents, type FoundNarHash } from '../catalogue/catalogue-entry.ts';
import type { NarContents } from './hash-nar.ts';
import { hashContents } from './nar-contents.ts';
import { systemCode } from '../../disk/store-error.ts';

/** Compressions that can be read here. Others can be read only by Nix. */
const COMPRESSIONS: ReadonlySet<string> = new Set(['none', 'xz', 'bzip2', 'zstd', 'gzip', 'br']);
/** The compressions that Node has no decoder for. */
const PROGRAMS = new Set(['xz', 'bzip2']);

/** Returns true if NARs of this compression can be decompressed here, as far as their programs are installed. */
export function isReadable(compression: string): boolean {
  return COMPRESSIONS.has(compression);
}

/**
 * Decompresses a NAR file and computes its NarHash. Returns no NarHash if the contents do not match the content
 * address. Returns undefined for an unknown compression.
 *
 * @throws NIX_MISSING if the program that decompresses it is missing; any error that keeps the program from running;
 *   the signal's reason
 */
export async function findNarHash(
  path: string,
  { compression, narSize, address, nice }: NarContents,
  signal?: AbortSignal,
): Promise<FoundNarHash | undefined> {
  if (!isReadable(compression)) return undefined;
  const check = address && contentsCheckOf(address);
  try {
    const { narHash } = await hashContents(path, compression, narSize, signal, {
      onBytes: (bytes) => check?.update(bytes),
      nice,
    });
    return check?.fits() === false ? noContents(narSize) : narHash;
  } catch (error) {
    assertIsOfFile(error, path, compression);
    return noContents(narSize);
  }
}

/**
 * Checks that an error of decompressing a file comes from its contents. Throws otherwise.
 *
 * @param error thrown by {@link hashContents} or {@link readContents}
 * @throws NIX_MISSING if the program that decompresses it is missing; any other error, such as one that keeps the program
 *   from running
 */
export function assertIsOfFile(error: unknown, path: string, compression: string): void {
  if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
  // A program that could not be started says nothing about the file.
  const code = systemCode(error.cause);
  if (code === undefined || isOfDecoder(code)) return;
  if (code !== 'ENOENT' || !PROGRAMS.has(compression)) throw error.cause;
  throw new NarswarmError(
    'NIX_MISSING',
    `there is no \`${compression}\` in PATH, which decompresses NARs: install ${compression}`,
    { cause: error, facts: { path, program: compression } },
  );
}

/** Returns true for codes of Node's decompressors for malformed data. */
function isOfDecoder(code: string): boolean {
  return /^(?:Z_|ZSTD_|ERR_)/.test(code);
}
