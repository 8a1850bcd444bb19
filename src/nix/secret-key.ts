import { open } from 'node:fs/promises';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { parseSecretKey, type SecretKey } from './signature.ts';

/** A key read from a file. */
export interface LoadedSecretKey extends SecretKey {
  /** Whether others than the owner have any right to the file: worth a warning, `chmod 600` mends it. */
  readonly tooOpen: boolean;
}

/**
 * Reads a file that `nix-store --generate-binary-cache-key` wrote.
 *
 * @throws NarswarmError naming the file: `NOT_FOUND` where there is none, `KEY_INVALID` where it cannot be read or
 *   holds anything else. What it holds is not shown.
 */
export async function loadSecretKey(file: string): Promise<LoadedSecretKey> {
  const { text, mode } = await readKeyFile(file);
  try {
    return { ...parseSecretKey(text), tooOpen: (mode & 0o077) !== 0 };
  } catch (cause) {
    if (!isNarswarmError(cause, 'KEY_INVALID')) throw cause;
    const wayOut = 'nix-store --generate-binary-cache-key NAME SECRET PUBLIC makes one';
    throw new NarswarmError('KEY_INVALID', `${file} is no secret key of Nix: ${cause.message} (${wayOut})`, { cause });
  }
}

async function readKeyFile(file: string): Promise<{ text: string; mode: number }> {
  try {
    await using handle = await open(file);
    const { mode } = await handle.stat();
    return { text: await handle.readFile('utf8'), mode };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT' ? 'NOT_FOUND' : 'KEY_INVALID';
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError(code, `cannot read the secret key ${file}: ${reason}`, { cause });
  }
}
