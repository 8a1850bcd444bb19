import { hash as digestOf } from 'node:crypto';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { parseNarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { AskedBy, Catalogue } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { SharedNars } from './shared-nars.ts';

/** Limit on remembered verdicts, enough for a whole channel: about 250 bytes each. */
const MAX_REMEMBERED = 131_072;
/** A narinfo that is not shared is judged again after this time: a hash map may list it by then. */
const JUDGE_AGAIN_MS = 10_000;

export interface OfferedNarInfosOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly shared: Pick<SharedNars, 'includes'>;
}

interface Verdict {
  /** SHA-256 of the text that was judged. */
  readonly digest: string;
  readonly storePath: StorePath;
  readonly askedBy: AskedBy | undefined;
  /** `performance.now`; infinite for a shared one. */
  readonly untilMs: number;
  readonly isShared: boolean;
}

/** The narinfos that members are given. Each text is judged once, however often it is asked for: a signature takes time. */
export class OfferedNarInfos {
  readonly #options: OfferedNarInfosOptions;
  readonly #verdicts = new Map<StoreHash, Verdict>();

  constructor(options: OfferedNarInfosOptions) {
    this.#options = options;
  }

  /** Returns the text of a narinfo. Undefined if there is none, or if it is damaged or not shared. */
  async read(hash: StoreHash): Promise<string | undefined> {
    const text = await this.#options.store.readNarInfoText(hash);
    if (text === undefined) return undefined;
    const digest = digestOf('sha256', text, 'base64');
    const known = this.#verdicts.get(hash);
    const verdict = known && this.#holds(known, digest) ? known : await this.#judge(hash, text, digest);
    return verdict?.isShared === true ? text : undefined;
  }

  #holds({ digest, storePath, askedBy, untilMs }: Verdict, now: string): boolean {
    return digest === now && askedBy === this.#askedBy(storePath) && performance.now() < untilMs;
  }

  async #judge(hash: StoreHash, text: string, digest: string): Promise<Verdict | undefined> {
    const info = parsed(text);
    if (info === undefined || storeHashOf(info.storePath) !== hash) return undefined;
    const { storePath } = info;
    const askedBy = this.#askedBy(storePath);
    const isShared = await this.#options.shared.includes(info, askedBy);
    const untilMs = isShared ? Infinity : performance.now() + JUDGE_AGAIN_MS;
    const verdict = { digest, storePath, askedBy, untilMs, isShared };
    if (this.#verdicts.size >= MAX_REMEMBERED) this.#verdicts.clear();
    this.#verdicts.set(hash, verdict);
    return verdict;
  }

  #askedBy(storePath: StorePath): AskedBy | undefined {
    return this.#options.catalogue.byStorePath(storePath)?.askedBy;
  }
}

function parsed(text: string): ReturnType<typeof parseNarInfo> | undefined {
  try {
    return parseNarInfo(text);
  } catch {
    return undefined; // damaged
  }
}
