/** A store's record of a path (Nix: src/libstore/path-info.hh), and a narinfo made from it. */
import type { NarInfo } from './narinfo.ts';
import { extraOf } from './narinfo.ts';

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
