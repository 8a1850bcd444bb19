/** A store's record of a path (Nix: src/libstore/path-info.hh), and a narinfo made from it. */
import type { StorePath } from './brands.ts';
import type { NarInfo } from './narinfo.ts';
import { extraOf } from './narinfo.ts';
import { parseStorePath } from './store-path.ts';

/** The parts of a narinfo that do not describe a file. */
export type PathInfo = Pick<
  NarInfo,
  'storePath' | 'narHash' | 'narSize' | 'references' | 'deriver' | 'signatures' | 'ca'
>;

/** Added field that marks a narinfo without a file. Nix ignores it. */
const NAR = 'Nar';
const ABSENT = 'absent';

/**
 * Makes the narinfo of a path that the target has, so that its NAR is not requested. Nix requires a URL; its file does
 * not exist.
 */
export function narInfoWithoutNar(info: PathInfo): NarInfo {
  return { ...info, url: `nar/${info.narHash}.nar`, compression: 'none', extra: [[NAR, ABSENT]] };
}

/** Returns true for a narinfo made by {@link narInfoWithoutNar}: it does not say where its NAR is. */
export function isWithoutNar(info: NarInfo): boolean {
  return extraOf(info, NAR) === ABSENT;
}

/**
 * Returns the paths that `nix path-info --json` calls ultimate: built by this machine itself. Older versions print a list
 * of paths, newer ones an object with the paths as keys.
 *
 * @throws SyntaxError if the text is not JSON; NarswarmError `STORE_PATH_INVALID`
 */
export function parseUltimate(json: string): StorePath[] {
  const printed: unknown = JSON.parse(json);
  const infos = Object.entries(Object(printed) as Readonly<Record<string, unknown>>);
  return infos.flatMap(([key, info]) => {
    const { path, ultimate } = Object(info) as { readonly path?: unknown; readonly ultimate?: unknown };
    return ultimate === true ? parseStorePath(typeof path === 'string' ? path : key) : [];
  });
}
