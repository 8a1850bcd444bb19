import type { FileHash, StorePath } from '../nix/brands.ts';
import type { Upstream } from '../http/upstream.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { NarTorrent } from '../torrent/canonical.ts';

/** One NAR file to fetch; several store paths may share it. */
export interface NarJob {
  readonly fileHash: FileHash;
  /** Bytes of the file as it is sent: FileSize. */
  readonly sizeBytes: number;
  /** As in the file's name: `xz`, `zst`, `` for none. */
  readonly extension: string;
  /** A narinfo that names it, with a signature that was checked. */
  readonly info: NarInfo;
  readonly storePaths: readonly StorePath[];
  /** The upstream whose own narinfo names the file, where others have failed before: it is asked first. */
  readonly preferred?: Upstream | undefined;
  /** The torrent that a hash map gives for it; dropped where the map turns out to have lied. */
  torrent: NarTorrent | undefined;
}
