import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';

/** Limit on remembered narinfos. One takes about a kilobyte. */
const MOST = 20_000;
/** Time for which a path that no source has is not looked for again. */
const ABSENT_MS = 30_000;

/** The narinfos that sources have given, and the paths that none has: of each kind the newest. */
export class NarInfoMemory {
  readonly #infos = new Map<StoreHash, NarInfo>();
  readonly #absent = new Map<StoreHash, number>();
  readonly #now: () => number;

  /** @param now milliseconds of a clock */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get(hash: StoreHash): NarInfo | undefined {
    return this.#infos.get(hash);
  }

  note(info: NarInfo): void {
    const hash = storeHashOf(info.storePath);
    this.#absent.delete(hash);
    this.#infos.set(hash, info);
    dropOldest(this.#infos);
  }

  /** Forgets a narinfo whose NAR no source could give. */
  forget(hash: StoreHash): void {
    this.#infos.delete(hash);
  }

  /** Forgets all narinfos: by the time of the next question, their sources may be gone. */
  forgetAll(): void {
    this.#infos.clear();
  }

  /** Returns true if no source had this path a moment ago. */
  isAbsent(hash: StoreHash): boolean {
    const untilMs = this.#absent.get(hash);
    if (untilMs === undefined) return false;
    if (this.#now() < untilMs) return true;
    this.#absent.delete(hash);
    return false;
  }

  noteAbsent(hash: StoreHash): void {
    this.#absent.delete(hash);
    this.#absent.set(hash, this.#now() + ABSENT_MS);
    dropOldest(this.#absent);
  }
}

function dropOldest(map: Map<StoreHash, unknown>): void {
  if (map.size <= MOST) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
