import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { Origin } from './held-pieces.ts';

/** The facts of a NAR that is not the one that its narinfo names. */
interface WrongBytes {
  readonly found: FileHash;
  /** True if the hash map names other bytes. */
  readonly mapLied: boolean;
  /** The senders of the bad pieces. */
  readonly origins: Origin[];
}

/** Makes the error of a NAR with other bytes than its narinfo says. */
export function wrongBytes(
  fileHash: FileHash,
  { found, mapLied, origins }: WrongBytes,
): NarswarmError<'HASH_MISMATCH'> {
  const from = mapLied ? 'the hash map names other bytes' : `bytes came from ${origins.join(', ')}`;
  return new NarswarmError(
    'HASH_MISMATCH',
    `the NAR ${fileHash} is not what its narinfo says: its SHA-256 is ${found} (${from})`,
    { facts: { fileHash, found, mapLied, origins } },
  );
}
