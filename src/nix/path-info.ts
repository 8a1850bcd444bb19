/** A store's registration of a path (Nix: src/libstore/path-info.hh), and the narinfo that it gives. */
import type { NarInfo } from './narinfo.ts';
import { extraOf } from './narinfo.ts';

/** All of a narinfo that is not about a file. */
export type PathInfo = Pick<
  NarInfo,
  'storePath' | 'narHash' | 'narSize' | 'references' | 'deriver' | 'signatures' | 'ca'
>;

/** The added field of a narinfo that names no file. Nix ignores it. */
const NAR = 'Nar';
const ABSENT = 'absent';

/**
 * The narinfo of a path whose NAR nobody is asked for, since the target has the path. Nix wants a URL in a narinfo: there
 * is no such file.
 */
export function narInfoWithoutNar(info: PathInfo): NarInfo {
  return { ...info, url: `nar/${info.narHash}.nar`, compression: 'none', extra: [[NAR, ABSENT]] };
}

/** Whether a narinfo is one of {@link narInfoWithoutNar}: it says nothing of where its NAR could come from. */
export function isWithoutNar(info: NarInfo): boolean {
  return extraOf(info, NAR) === ABSENT;
}
