import { open } from 'node:fs/promises';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { parseSecretKey, type SecretKey } from './signature.ts';

const MAKE_KEY = 'make one with nix-store --generate-binary-cache-key NAME SECRET PUBLIC';

/** A key read from a file. */
export interface LoadedSecretKey extends SecretKey {
  /** True if other users have any right to the file. It deserves a warning; `chmod 600` fixes it. */
  readonly tooOpen: boolean;
}

/**
 * Reads a file written by `nix-store --generate-binary-cache-key`.
 *
 * @throws NarswarmError naming the file: `NOT_FOUND` if it does not exist, `KEY_INVALID` if it cannot be read or holds
 *   anything else. The error never shows its contents.
 */
export async function loadSecretKey(file: string): Promise<LoadedSecretKey> {
  const { text, mode } = await readKeyFile(file);
  try {
    return { ...parseSecretKey(text), tooOpen: (mode & 0o077) !== 0 };
  } catch (cause) {
    if (!isNarswarmError(cause, 'KEY_INVALID')) throw cause;
    throw new NarswarmError('KEY_INVALID', `${file} is not a secret key of Nix: ${cause.message} (${MAKE_KEY})`, {
      cause,
    });
  }
}

async function readKeyFile(file: string): Promise<{ text: string; mode: number }> {
  try {
    await using handle = await open(file);
    const { mode } = await handle.stat();
    return { text: await handle.readFile('utf8'), mode };
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')
      throw new NarswarmError('NOT_FOUND', `there is no secret key ${file}: ${MAKE_KEY}`, { cause });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('KEY_INVALID', `cannot read the secret key ${file}: ${reason}`, { cause });
  }
}
