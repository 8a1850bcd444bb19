import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { walkClosure, type FindNarInfo } from '../fetch/walk/closure.ts';

/** Interval at which the paths that a walk has found so far are wanted. */
const EVERY_MS = 100;
/**
 * Walks without a request for a NAR after which no further path is walked: somebody only asks which paths there are, as
 * `nix-env --query --status` does for all packages.
 */
const MOST_WALKS = 64;

export interface LookAheadOptions {
  /** Finds narinfos. Those without a NAR are of paths that this machine's Nix store holds. */
  readonly find: FindNarInfo;
  /** Returns true if this machine's Nix store holds the path. */
  readonly isValid: (info: NarInfo) => Promise<boolean>;
  /** Called with paths whose NAR is needed. */
  readonly onNeeded: (infos: readonly NarInfo[]) => void;
  /** Called with paths that the Nix store holds. */
  readonly onValid: (info: NarInfo) => void;
  readonly signal: AbortSignal;
}

/**
 * Walks the closure of each path that Nix asks for, and wants all NARs that the Nix store lacks before Nix asks for
 * them.
 */
export class LookAhead {
  readonly #options: LookAheadOptions;
  /** The narinfos that walks have found so far. None is looked up twice. */
  readonly #found = new Map<StoreHash, NarInfo>();
  #needed: NarInfo[] = [];
  #timer: NodeJS.Timeout | undefined;
  #walks = 0;

  constructor(options: LookAheadOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => clearTimeout(this.#timer));
  }

  /** Notes that a client wants a NAR, and so does not only look around. */
  noteWanted(): void {
    this.#walks = 0;
  }

  /** Begins with the closure of a path that Nix has asked for. Never throws. */
  async begin(info: NarInfo): Promise<void> {
    const { find, isValid, signal } = this.#options;
    const root = storeHashOf(info.storePath);
    if (this.#found.has(root) || this.#walks >= MOST_WALKS || signal.aborted) return;
    this.#walks++;
    if (await isValid(info)) return; // `nix copy` asks for everything
    await walkClosure([root], find, {
      signal,
      known: this.#found,
      onNarInfo: (found) => this.#take(found),
      onMissing: () => undefined, // Nix will ask for it, and get the failure
    }).catch(() => undefined);
    this.#want();
  }

  #take(info: NarInfo): void {
    this.#found.set(storeHashOf(info.storePath), info);
    if (isWithoutNar(info)) this.#options.onValid(info);
    else this.#needed.push(info);
    this.#timer ??= setTimeout(() => this.#want(), EVERY_MS);
  }

  #want(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#needed.length > 0 && !this.#options.signal.aborted) this.#options.onNeeded(this.#needed.splice(0));
  }
}
