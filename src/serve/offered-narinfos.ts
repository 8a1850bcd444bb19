import { hash as digestOf } from 'node:crypto';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import type { AskedBy } from '../store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../store/file-store.ts';
import type { NarsHere } from './nars-here.ts';
import type { SharedNars, Verdict } from './shared-nars.ts';

/** Limit on remembered verdicts, about 250 bytes each: enough for a whole channel. */
const MAX_REMEMBERED = 131_072;
/** Time after which a narinfo that is not shared is judged again: a hash map may list it by then. */
const JUDGE_AGAIN_MS = 10_000;

export interface OfferedNarInfosOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly shared: Pick<SharedNars, 'judge' | 'stillHolds'>;
  readonly here: Pick<NarsHere, 'has'>;
}

/** A narinfo that was judged. */
interface Judged {
  /** SHA-256 of the judged text. */
  readonly digest: string;
  readonly storePath: StorePath;
  readonly askedBy: AskedBy | undefined;
  /** Time until which the verdict holds (`performance.now`). Infinite if the narinfo is shared. */
  readonly untilMs: number;
  readonly verdict: Verdict;
}

/**
 * The narinfos that members may get: those whose NAR can be given. Judges each text once, since checking a signature takes
 * time.
 */
export class OfferedNarInfos {
  readonly #options: OfferedNarInfosOptions;
  readonly #judged = new Map<StoreHash, Judged>();

  constructor(options: OfferedNarInfosOptions) {
    this.#options = options;
  }

  /** Returns the text of a narinfo. Undefined if there is none, if it is damaged or not shared, or if its NAR is not here. */
  async read(hash: StoreHash): Promise<string | undefined> {
    const text = await this.#options.store.readNarInfoText(hash);
    const info = text === undefined ? undefined : parsed(text);
    if (text === undefined || info === undefined || storeHashOf(info.storePath) !== hash) return undefined;
    const digest = digestOf('sha256', text, 'base64');
    const known = this.#judged.get(hash);
    const judged = known && this.#holds(known, digest) ? known : await this.#judge(hash, info, digest);
    return judged.verdict.isShared && (await this.#options.here.has(info)) ? text : undefined;
  }

  #holds({ digest, storePath, askedBy, untilMs, verdict }: Judged, now: string): boolean {
    const isSame = digest === now && askedBy === this.#askedBy(storePath);
    return isSame && performance.now() < untilMs && this.#options.shared.stillHolds(verdict);
  }

  async #judge(hash: StoreHash, info: NarInfo, digest: string): Promise<Judged> {
    const { storePath } = info;
    const askedBy = this.#askedBy(storePath);
    const verdict = await this.#options.shared.judge(info, askedBy);
    const untilMs = verdict.isShared ? Infinity : performance.now() + JUDGE_AGAIN_MS;
    const judged = { digest, storePath, askedBy, untilMs, verdict };
    if (this.#judged.size >= MAX_REMEMBERED) this.#judged.clear();
    this.#judged.set(hash, judged);
    return judged;
  }

  #askedBy(storePath: StorePath): AskedBy | undefined {
    return this.#options.catalogue.byStorePath(storePath)?.askedBy;
  }
}

function parsed(text: string): NarInfo | undefined {
  try {
    return parseNarInfo(text);
  } catch {
    return undefined; // damaged
  }
}
