import type { HashThread } from '../../bytes/hash-thread.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { DownloadMemory } from './download-memory.ts';
import type { DownloadSource } from './download-source.ts';
import type { Member } from '../member.ts';
import type { Picker } from './picker.ts';
import type { RangeRequests } from './range-requests.ts';
import type { Sink } from './sink.ts';

/** The places of files, and the callbacks about them. */
export interface FileOptions {
  /** Computes the SHA-1 of arriving pieces. */
  readonly hashThread: HashThread;
  /**
   * True if pieces are given only to members that want them. Then the SHA-1 of pieces is not checked if the SHA-256 of
   * the whole file follows in a moment. Default: false.
   */
  readonly leavesUnchecked?: boolean;
  /** Opens the sink of a file. Called once for each, before its first byte is written. */
  readonly open: (file: FileHash) => Promise<Sink>;
  /** Called with the number of bytes that are right. */
  readonly onVerified: (bytes: number) => void;
  /** Called with a piece that is right and is in its sink. */
  readonly onPiece: (file: FileHash, index: number) => void;
  /** Called when all of a file is in its sink. */
  readonly onComplete: (file: FileHash) => void;
  /** Called if a sink fails. The file is no longer requested. */
  readonly onFailure: (file: FileHash, error: unknown) => void;
}

/** The parts of a download that its files share. */
export interface FileContext {
  readonly options: FileOptions;
  readonly picker: Picker;
  readonly memory: DownloadMemory;
  readonly requests: RangeRequests;
  /** The connected members. */
  readonly sources: ReadonlyMap<Member, DownloadSource>;
  /** Called when a member has sent wrong bytes. */
  readonly onLie: (source: DownloadSource, file: FileHash) => void;
  /** Called when a range whose beginning is kept may be requested from another member. */
  readonly onFree: () => void;
}
