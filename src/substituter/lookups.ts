import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { FindNarInfo } from '../fetch/walk/closure.ts';
import { withinMs } from '../within.ts';
import type { NarInfoMemory } from './narinfo-memory.ts';

/** Paths that are looked up for clients at the same time. One takes some kilobytes, and a request to each cache. */
const MOST_ASKED = 2_048;

/** Time for a further path while no source answers. Nix asks for one path of a closure after another. */
const AGAIN_MS = 500;

/**
 * Looks up narinfos, each once however many ask, and remembers the answers: but not those of the file store, whose NARs
 * may be removed at any moment.
 */
export class Lookups {
  readonly #findAnew: FindNarInfo;
  readonly #isOfStore: (hash: StoreHash) => boolean;
  readonly #memory: NarInfoMemory;
  readonly #signal: AbortSignal;
  readonly #asked = new Map<StoreHash, Promise<NarInfo | undefined>>();
  /** True after a source was silent for too long, until one beyond the file store answers. */
  #areSilent = false;

  /**
   * @param find asks the sources
   * @param isOfStore returns true if a narinfo that was just found came from the file store
   */
  constructor(find: FindNarInfo, isOfStore: (hash: StoreHash) => boolean, memory: NarInfoMemory, signal: AbortSignal) {
    this.#findAnew = find;
    this.#isOfStore = isOfStore;
    this.#memory = memory;
    this.#signal = signal;
  }

  /** Returns the narinfo of a path from any source. @throws the failure of a source if none has it */
  find(hash: StoreHash, path?: StorePath): Promise<NarInfo | undefined> {
    const known = this.#memory.get(hash);
    if (known !== undefined) return Promise.resolve(known);
    const asked = this.#asked.get(hash) ?? this.#ask(hash, path).finally(() => this.#asked.delete(hash));
    this.#asked.set(hash, asked);
    return asked;
  }

  /**
   * As {@link find}. A path that cannot be found within that time counts as absent for a moment. There is less time after
   * sources did not answer. While too many are looked up, no further one is found. Never throws.
   */
  async findWithin(durationMs: number, hash: StoreHash): Promise<NarInfo | undefined> {
    if (this.#memory.isAbsent(hash)) return undefined;
    if (this.#asked.size >= MOST_ASKED && !this.#asked.has(hash)) return this.#memory.get(hash);
    const asked = this.find(hash).then(
      (found) => ({ found }),
      () => ({ found: undefined }),
    );
    const answer = await withinMs(this.#areSilent ? Math.min(AGAIN_MS, durationMs) : durationMs, asked);
    if (answer === undefined) this.#areSilent = true;
    if (answer?.found === undefined) this.#memory.noteAbsent(hash);
    return answer?.found;
  }

  async #ask(hash: StoreHash, path: StorePath | undefined): Promise<NarInfo | undefined> {
    const found = await this.#findAnew(hash, this.#signal, path);
    if (found !== undefined && this.#isOfStore(hash)) return found;
    this.#areSilent = false;
    if (found !== undefined) this.#memory.note(found);
    return found;
  }
}
