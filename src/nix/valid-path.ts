/** Nix's registration of a path in its store (Nix: `makeValidityRegistration` in src/libstore/store-api.cc). */
import { NarswarmError } from '../errors.ts';
import type { NarHash, StorePath } from './brands.ts';
import { asNarHash } from './hash.ts';
import type { NarInfo } from './narinfo.ts';
import { baseNameOf, parseStorePath } from './store-path.ts';

/** A path that a store holds, with the facts that a signature of its narinfo covers. */
export interface ValidPath {
  readonly storePath: StorePath;
  readonly narHash: NarHash;
  /** Bytes of the uncompressed NAR. */
  readonly narSize: number;
  /** Base names. The path itself may be among them. */
  readonly references: readonly string[];
}

/**
 * Parses the output of `nix-store --dump-db PATH…`, a line per item: path, NarHash (hex), NarSize, deriver (may be
 * empty), number of references, each reference.
 *
 * @throws NarswarmError `NIX_FAILED` for anything else.
 */
export function parseRegistrations(lines: readonly string[]): ValidPath[] {
  const paths: ValidPath[] = [];
  for (let at = 0; at < lines.length;) {
    const [path = '', hash = '', size = '', , count = ''] = lines.slice(at, at + 5);
    const end = at + 5 + Number(count);
    if (!/^\d+$/.test(size) || !/^\d+$/.test(count) || end > lines.length) throw unknownShape(path);
    paths.push({
      ...readPath(path, hash, lines.slice(at + 5, end)),
      narSize: Number(size),
    });
    at = end;
  }
  return paths;
}

/**
 * Returns true if a narinfo describes the same contents as the store: then its signatures are valid for the store's
 * path.
 */
export function isOfSameContents(info: NarInfo, path: ValidPath): boolean {
  const names = (references: readonly string[]): string => [...new Set(references)].toSorted().join(' ');
  return (
    info.storePath === path.storePath &&
    info.narHash === path.narHash &&
    info.narSize === path.narSize &&
    names(info.references) === names(path.references)
  );
}

function readPath(path: string, hash: string, references: readonly string[]): Omit<ValidPath, 'narSize'> {
  try {
    return {
      storePath: parseStorePath(path),
      narHash: asNarHash(`sha256:${hash}`),
      references: references.map((reference) => baseNameOf(parseStorePath(reference))),
    };
  } catch (cause) {
    throw unknownShape(path, cause);
  }
}

function unknownShape(path: string, cause?: unknown): NarswarmError {
  const message = `nix-store --dump-db describes ${path} in a shape that narswarm does not know`;
  return new NarswarmError('NIX_FAILED', message, { cause });
}
