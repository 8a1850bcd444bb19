import type { FileHash, StorePath } from '../../nix/brands.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { NarTorrent } from '../../torrent/canonical.ts';
import type { NamedFile } from './named-file.ts';

/** A NAR file to fetch. Several store paths may share it. */
export interface NarJob {
  readonly fileHash: FileHash;
  /** Bytes of the file as sent: FileSize. */
  readonly sizeBytes: number;
  /** The extension of the file's name: `xz`, `zst`, or empty. */
  readonly extension: string;
  /** A narinfo that names it, with a verified signature. */
  readonly info: NarInfo;
  readonly storePaths: StorePath[];
  /**
   * True if narinfos with different NarHashes name this file. One of them lies: only the contents show which one.
   */
  isDisputed?: boolean;
  /** The upstream whose own narinfo names the file, if others have failed before. It is asked first. */
  readonly preferred?: Upstream | undefined;
  /**
   * The configured cache whose own narinfo names the file. Undefined if another source names it: then somebody else may
   * have put a private file's name there. Set later if such a cache turns out to name it.
   */
  namedBy?: Upstream | undefined;
  /** Its torrent in a hash map. Dropped if the hash map turns out to have lied. */
  torrent: NarTorrent | undefined;
}

/** Makes the job of a path without a torrent. @param cache the cache whose own narinfo it is */
export function newJob(file: NamedFile, info: NarInfo, cache: Upstream | undefined): NarJob {
  const namedBy = cache?.isAnnounced === false ? cache : undefined;
  return { ...file, info, storePaths: [info.storePath], namedBy, torrent: undefined };
}
