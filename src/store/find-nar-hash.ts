import { isNarswarmError, NarswarmError } from '../errors.ts';
import { contentsCheckOf } from '../nix/contents-check.ts';
import { noContents, type FoundNarHash } from './catalogue.ts';
import type { NarContents } from './hash-nar.ts';
import { hashContents } from './nar-contents.ts';
import { systemCode } from '../disk/store-error.ts';

/** Compressions that can be read here. Of any other nobody but Nix can tell what is in the file. */
const COMPRESSIONS = new Set(['none', 'xz', 'bzip2', 'zstd', 'gzip', 'br']);
/** Those of them that Node has no decoder for. */
const PROGRAMS = new Set(['xz', 'bzip2']);

/**
 * Decompresses a NAR file for its NarHash. Contents that do not fit the content address count as none. Undefined for a
 * compression that is not known here.
 *
 * @throws NIX_MISSING without the program that decompresses it; anything that keeps it from running; the signal's reason
 */
export async function findNarHash(
  path: string,
  { compression, narSize, address }: NarContents,
  signal?: AbortSignal,
): Promise<FoundNarHash | undefined> {
  if (!COMPRESSIONS.has(compression)) return undefined;
  const check = address && contentsCheckOf(address);
  try {
    const { narHash } = await hashContents(path, compression, narSize, signal, (bytes) => check?.update(bytes));
    return check?.fits() === false ? noContents(narSize) : narHash;
  } catch (error) {
    if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
    // A program that could not be started says nothing about the file.
    const code = systemCode(error.cause);
    if (code === undefined || isOfDecoder(code)) return noContents(narSize);
    if (code !== 'ENOENT' || !PROGRAMS.has(compression)) throw error.cause;
    throw new NarswarmError(
      'NIX_MISSING',
      `there is no \`${compression}\` in PATH, which it takes to look into NARs: install ${compression}`,
      { cause: error, facts: { path, program: compression } },
    );
  }
}

/** Codes of Node's decompressors for bytes that they cannot read. */
function isOfDecoder(code: string): boolean {
  return /^(?:Z_|ZSTD_|ERR_)/.test(code);
}
