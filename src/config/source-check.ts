/** What is wrong with the path of a source and known before any update. */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { parseBaseName } from '../nix/store-path.ts';
import { parseSource } from '../subscription/source.ts';
import { isReadable } from './units.ts';

interface Written {
  readonly source: string;
  readonly file?: string | undefined;
}

/**
 * Refuses a path where something lies that is neither a file nor a link, nor in a store. What is not there, or cannot be
 * looked at, may be there in time.
 *
 * @throws USAGE
 */
export async function checkPlace({ source, file }: Written): Promise<void> {
  const parsed = parseSource(source, { file });
  if (parsed.kind !== 'path') return;
  const { path } = parsed;
  try {
    const place = join(await realpath(dirname(path)), basename(path));
    const found = await lstat(place);
    // The file store, and so its store directory, is the one that an update is given: any name of a path in one counts.
    const isInStore = place.split('/').some((name) => isReadable(name, parseBaseName));
    if (found.isFile() || found.isSymbolicLink() || isInStore) return;
  } catch {
    return;
  }
  throw new NarswarmError(
    'USAGE',
    `${quote(path)} is neither a list of store paths nor a link into the store: a flake is written with a #, as ${path}#default`,
    { facts: { path } },
  );
}
