import type { FileHash } from '../../nix/brands.ts';
import type { Fetch } from '../messages/messages.ts';
import type { WantedFiles } from './wanted.ts';

/** Time after which a claim is too old. A member that fetches a file repeats its claim about every second. */
const SAID_MS = 3_000;
/** Time without new bytes after which a file does not count as being fetched. */
const GREW_MS = 5_000;
/** The same time while nothing has come: the upstream may be out of the member's reach, but not out of ours. */
const CAME_MS = 4_000;
/**
 * Time within which a member must give a file that it holds completely, since it checks it first. More time is allowed
 * per byte.
 */
const CHECK_MS = 5_000;
const CHECK_MS_PER_BYTE = 1e-4;

/** A member's claim about a file that it fetches from an upstream. */
export interface Claim {
  readonly heldBytes: number;
  /** Average rate of the fetch. 0 if it is not known yet. */
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
 * The wanted files that one member claims to fetch from an upstream, so that it can give them soon. A claim is a hint:
 * it counts while it grows. A member that holds a file completely and does not give it has lied, and is no longer
 * believed.
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

  /** Records the claims of a message. Ignores files that are not wanted. */
  on(fetches: readonly Fetch[]): void {
    const nowMs = this.#now();
    for (const { prefix, heldBytes: claimedBytes } of fetches) {
      const { file, sizeBytes = Infinity } = this.#wanted.byPrefix(prefix) ?? {};
      if (file === undefined) continue;
      const heldBytes = Math.min(claimedBytes, sizeBytes); // beyond its end, a file would grow for ever
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

  /** Returns the claim about a file. Undefined if there is none, or if it is not believed. */
  get(file: FileHash): Claim | undefined {
    const heard = this.#isBelieved ? this.#heard.get(file) : undefined;
    if (heard === undefined) return undefined;
    const { firstAtMs, firstBytes, heldBytes, saidAtMs, grewAtMs } = heard;
    const nowMs = this.#now();
    if (nowMs - saidAtMs > SAID_MS) return undefined; // it has stopped: the file was wrong, or its machine sleeps
    const isWhole = heldBytes >= (this.#wanted.get(file)?.sizeBytes ?? Infinity);
    const isLate = nowMs - grewAtMs > (isWhole ? CHECK_MS + heldBytes * CHECK_MS_PER_BYTE : growthMs(heldBytes));
    if (isWhole && isLate) this.#isBelieved = false;
    if (isLate) return undefined;
    const grewMs = saidAtMs - firstAtMs;
    return { heldBytes, bytesPerSec: grewMs === 0 ? 0 : ((heldBytes - firstBytes) * 1000) / grewMs };
  }

  /** Drops claims about files that are no longer wanted, or that the member now gives. */
  forget(files: Iterable<FileHash>): void {
    for (const file of files) this.#heard.delete(file);
  }
}

/** Returns the time within which an incomplete file must grow. */
function growthMs(heldBytes: number): number {
  return heldBytes === 0 ? CAME_MS : GREW_MS;
}
