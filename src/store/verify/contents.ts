import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { hashContents } from '../nar-hash.ts';
import { systemCode } from '../store-error.ts';

/** What can be decompressed here; of anything else FileHash has to do. */
const COMPRESSIONS = new Set(['none', 'xz', 'bzip2', 'zstd', 'gzip', 'br']);

/**
 * Decompresses a NAR and holds it against NarHash and NarSize. The reason why it is not what they say, or undefined
 * where it is. No more comes out of it than NarSize.
 *
 * @throws NIX_MISSING where the program is not there that decompresses it; whatever keeps it from running; the signal's
 *   reason
 */
export async function checkContents(path: string, info: NarInfo, signal: AbortSignal): Promise<string | undefined> {
  if (!COMPRESSIONS.has(info.compression)) return undefined;
  try {
    const { narHash, narSize } = await hashContents(path, info.compression, info.narSize, signal);
    if (narHash !== info.narHash) return `its contents have the SHA-256 ${narHash}, signed is ${info.narHash}`;
    return narSize === info.narSize ? undefined : `it holds ${narSize} bytes, signed are ${info.narSize}`;
  } catch (error) {
    if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
    // A program that could not be started says nothing about the file.
    const code = systemCode(error.cause);
    if (code === undefined || isOfDecoder(code)) return error.message;
    const isMissing = code === 'ENOENT' && (info.compression === 'xz' || info.compression === 'bzip2');
    if (!isMissing) throw error.cause;
    throw new NarswarmError(
      'NIX_MISSING',
      `there is no \`${info.compression}\` in PATH, which it takes to look into the NAR of ${info.storePath}: install ${info.compression}, or leave --deep out`,
      { cause: error, facts: { path: info.storePath, program: info.compression } },
    );
  }
}

/** What Node's decompressors say of bytes that they cannot read. */
function isOfDecoder(code: string): boolean {
  return /^(?:Z_|ZSTD_|ERR_)/.test(code);
}
