import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { inStore } from '../disk/store-error.ts';
import type { Base } from './apply.ts';
import { encodeHeader, hasHeaders, partsOf, PART_BYTES, WINDOW_BYTES } from './format.ts';
import { ForwardWindow } from './forward-window.ts';

/**
 * Below level 5, zstd finds only matches in the last 16 MiB of a dictionary (the tables of `fast` and `dfast` have 24
 * bits for a position).
 */
const LEVEL = 9;
/** The table that finds matches has an entry for each byte of the window: with fewer, zstd forgets its beginning. */
const MAX_HASH_LOG = 25;
const CHAIN_LOG = 22;

const compress = promisify(zstdCompress);

/**
 * Writes the patch that makes a NAR out of a base.
 *
 * @param target.maxBytes ends the work once the patch is larger
 * @returns bytes of the patch. Undefined if it would be larger than `maxBytes`
 * @throws STORE_FULL, STORE_UNWRITABLE; errors of the two NARs; the signal's reason
 */
export async function makePatch(
  base: Base,
  target: Base,
  { path, maxBytes, signal }: { readonly path: string; readonly maxBytes: number; readonly signal: AbortSignal },
): Promise<number | undefined> {
  const windows = new ForwardWindow(base.nar, Math.min(base.narSize, WINDOW_BYTES));
  const nar = new ForwardWindow(target.nar, Math.min(target.narSize, PART_BYTES));
  await using file = await inStore(open(path, 'w'), path);
  try {
    let written = 0;
    let at = 0;
    for (const part of partsOf(target.narSize, base.narSize)) {
      signal.throwIfAborted();
      const dictionary = await windows.read(part.baseOffset, part.baseBytes);
      const frame = await compress(await nar.read(at, part.narBytes), {
        dictionary,
        pledgedSrcSize: part.narBytes,
        params: paramsOf(part.narBytes, part.baseBytes),
      });
      at += part.narBytes;
      const header = hasHeaders(target.narSize, base.narSize)
        ? [encodeHeader({ ...part, frameBytes: frame.length })]
        : [];
      const bytes = Buffer.concat([...header, frame]);
      written += bytes.length;
      if (written > maxBytes) return undefined;
      await inStore(file.writeFile(bytes), path);
    }
    return written;
  } finally {
    await windows.close();
    await nar.close();
  }
}

function paramsOf(narBytes: number, baseBytes: number): Record<number, number> {
  return {
    [constants.ZSTD_c_compressionLevel]: LEVEL,
    // A distance into the dictionary counts from the beginning of the part, so the window need not hold the base.
    [constants.ZSTD_c_windowLog]: Math.max(10, Math.ceil(Math.log2(narBytes))),
    [constants.ZSTD_c_hashLog]: Math.min(MAX_HASH_LOG, Math.max(10, Math.ceil(Math.log2(baseBytes)))),
    [constants.ZSTD_c_chainLog]: CHAIN_LOG,
  };
}
