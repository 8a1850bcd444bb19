/** Finds errors in the path of a source before any update. */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import { quote } from '../nix/quote.ts';
import { parseBaseName } from '../nix/store-path.ts';
import { parseSource } from '../subscription/source/source.ts';
import { isReadable } from './units.ts';

interface Written {
  readonly source: string;
  readonly file?: string | undefined;
}

/**
 * Refuses a path to something that is neither a file, a link, nor in a store. Accepts a path that does not exist or
 * cannot be read: it may exist at the time of an update.
 *
 * @returns the path if it does not exist
 * @throws USAGE
 */
export async function checkPlace({ source, file }: Written): Promise<string | undefined> {
  const parsed = parseSource(source, { file });
  if (parsed.kind !== 'path') return undefined;
  const { path } = parsed;
  try {
    const place = join(await realpath(dirname(path)), basename(path));
    const found = await lstat(place);
    // The file store, and with it the store directory, may differ with each update: any store path name in the path
    // will do.
    const isInStore = place.split('/').some((name) => isReadable(name, parseBaseName));
    if (found.isFile() || found.isSymbolicLink() || isInStore) return undefined;
  } catch (error) {
    return systemCode(error) === 'ENOENT' ? path : undefined;
  }
  throw new NarswarmError(
    'USAGE',
    `${quote(path)} is neither a list of store paths nor a link into the store: a flake is written with a #, as ${path}#default`,
    { facts: { path } },
  );
}
