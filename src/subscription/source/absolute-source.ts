import { resolve } from 'node:path';
import { NarswarmError } from '../../errors.ts';
import { quote } from '../../nix/quote.ts';
import { formatSource, parseSource } from './source.ts';

/** A source as a configuration keeps it: it means the same in any working folder. */
export interface AbsoluteSource {
  readonly source: string;
  readonly file: string | undefined;
}

/** Matches `./flake?dir=x#attribute`: the path, and the rest. Without a path, as in `#attribute`, it is the folder itself. */
const RELATIVE_FLAKE = /^()((?:\.{1,2}(?:\/[^?#]*)?)?)([?#].*)$/;
/** Matches the same with `path:` before it, where a path needs no dot. */
const RELATIVE_PATH_FLAKE = /^(path:)((?!\/)[^?#]*)([?#].*)$/;

/**
 * Makes a source from the folder `cwd` fit for a configuration. Makes relative files, profiles, flakes and the file of
 * `-f` absolute. Otherwise only trims it.
 *
 * @throws as {@link parseSource}; `USAGE` if the path of a flake cannot be written in a flake reference
 */
export function absoluteSource(
  text: string,
  options: { file?: string | undefined } & { readonly cwd: string },
): AbsoluteSource {
  const { cwd } = options;
  const source = parseSource(text, options);
  if (source.kind === 'attribute') return { source: source.attribute, file: absoluteFile(source.file, cwd) };
  if (source.kind === 'path') return checkRoundTrip(resolve(cwd, source.path), source.kind);
  if (source.kind !== 'installable') return { source: formatSource(source), file: undefined };
  const { installable } = source;
  const [, scheme = '', path, rest] = RELATIVE_FLAKE.exec(installable) ?? RELATIVE_PATH_FLAKE.exec(installable) ?? [];
  if (path === undefined || rest === undefined) return { source: installable, file: undefined };
  const folder = resolve(cwd, path);
  if (/[?#%]/.test(folder)) {
    throw new NarswarmError('USAGE', `${quote(folder)} cannot be named in a flake reference: it has a ? # or %`);
  }
  return { source: `${scheme}${folder}${rest}`, file: undefined };
}

/** Makes the path of a file absolute. Keeps files that Nix finds itself: `<nixpkgs>` and URLs. */
function absoluteFile(file: string, cwd: string): string {
  return /^<.*>$|^[a-z][a-z0-9+.-]*:/i.test(file) ? file : resolve(cwd, file);
}

/** Refuses a `#` in a path: it would make the absolute path a flake. */
function checkRoundTrip(path: string, kind: 'path'): AbsoluteSource {
  const { kind: found } = parseSource(path);
  if (found === kind || found === 'store-path') return { source: path, file: undefined };
  throw new NarswarmError('USAGE', `${quote(path)} has a # in its path, which makes it a flake: move or link the file`);
}
