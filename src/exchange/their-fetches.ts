import type { FileHash } from '../nix/brands.ts';
import type { Fetch } from './messages.ts';
import type { WantedFiles } from './wanted.ts';

/** A member that fetches a file says so about every second. */
const SAID_MS = 3_000;
/** A file of which a member has held no more bytes for so long is not being fetched. */
const GREW_MS = 5_000;
/** A member gives a file that it holds whole within so long, once it has checked it, and so much more per byte. */
const CHECK_MS = 5_000;
const CHECK_MS_PER_BYTE = 1e-4;

/** What a member says of a file that it fetches from elsewhere. */
export interface Claim {
  readonly heldBytes: number;
  /** What it fetches, on average; 0 if that is not known yet. */
  readonly bytesPerSec: number;
}

interface Heard {
  readonly firstAtMs: number;
  readonly firstBytes: number;
  heldBytes: number;
  saidAtMs: number;
  grewAtMs: number;
}

/**
 * The files we want of which one member says that it fetches them from elsewhere, so that it can give them soon. A claim
 * is a hint: it counts as long as it grows. A member that holds a file whole and does not give it has lied, and is not
 * believed again.
 */
export class TheirFetches {
  readonly #wanted: WantedFiles;
  readonly #now: () => number;
  readonly #heard = new Map<FileHash, Heard>();
  #isBelieved = true;

  constructor(wanted: WantedFiles, now: () => number = () => performance.now()) {
    this.#wanted = wanted;
    this.#now = now;
  }

  /** Takes in what the member says. Files that are not wanted are left out. */
  on(fetches: readonly Fetch[]): void {
    const nowMs = this.#now();
    for (const { prefix, heldBytes } of fetches) {
      const file = this.#wanted.byPrefix(prefix)?.file;
      if (file === undefined) continue;
      const heard = this.#heard.get(file);
      if (heard === undefined || nowMs - heard.saidAtMs > SAID_MS) {
        this.#heard.set(file, { firstAtMs: nowMs, firstBytes: heldBytes, heldBytes, saidAtMs: nowMs, grewAtMs: nowMs });
        continue;
      }
      if (heldBytes > heard.heldBytes) heard.grewAtMs = nowMs;
      heard.heldBytes = Math.max(heldBytes, heard.heldBytes);
      heard.saidAtMs = nowMs;
    }
  }

  /** Returns what the member says of a file, if that is to be believed. */
  get(file: FileHash): Claim | undefined {
    const heard = this.#isBelieved ? this.#heard.get(file) : undefined;
    if (heard === undefined) return undefined;
    const { firstAtMs, firstBytes, heldBytes, saidAtMs, grewAtMs } = heard;
    const nowMs = this.#now();
    const isWhole = heldBytes >= (this.#wanted.get(file)?.sizeBytes ?? Infinity);
    const isLate = nowMs - grewAtMs > (isWhole ? CHECK_MS + heldBytes * CHECK_MS_PER_BYTE : GREW_MS);
    if (isWhole && isLate) this.#isBelieved = false;
    if (isLate || nowMs - saidAtMs > SAID_MS) return undefined;
    const grewMs = saidAtMs - firstAtMs;
    return { heldBytes, bytesPerSec: grewMs === 0 ? 0 : ((heldBytes - firstBytes) * 1000) / grewMs };
  }

  /** Drops what was said of files that are not wanted any longer, or that the member gives. */
  forget(files: Iterable<FileHash>): void {
    for (const file of files) this.#heard.delete(file);
  }
}
