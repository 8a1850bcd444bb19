import { EventEmitter } from 'node:events';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import PQueue from 'p-queue';
import { prefixOf, type FilePrefix, type Refusal } from '../exchange/messages.ts';
import type { Asked, Offer, OfferedFile, OfferEvents } from '../exchange/offer.ts';
import type { PieceSet } from '../exchange/piece-set.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import { encodeNix32 } from '../nix/nix32.ts';
import { tailOf, type Catalogue, type CatalogueEntry } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { LastServed } from '../store/last-served.ts';
import type { Gate } from './gate.ts';
import type { HeldNars } from './held-nars.ts';
import { OfferedNarInfos } from './offered-narinfos.ts';
import type { SharedNars } from './shared-nars.ts';

/** Entries that the gate looks at in the background at a time, each a small file to read and a signature to check. */
const CHECKS_AT_ONCE = 4;
/** Pause between two looks that nobody waits for, each a third of a millisecond: one hundredth of a processor. */
const UNHURRIED_MS = 30;
/** An entry that the gate did not let through is looked at again after so long. */
const CHECK_AGAIN_MS = 10_000;

export interface NarOfferOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly gate: Gate;
  readonly held: HeldNars;
  readonly shared: Pick<SharedNars, 'judge' | 'stillHolds'>;
  readonly served: LastServed;
}

/** What members are given: the NARs of the store that the gate lets through, those of a running fetch, and narinfos. */
export class NarOffer extends EventEmitter<OfferEvents> implements Offer {
  readonly #options: NarOfferOptions;
  readonly #checks = new PQueue({ concurrency: CHECKS_AT_ONCE });
  readonly #checking = new Set<CatalogueEntry>();
  /** Entries that did not pass, and when they may be tried again (`performance.now`). */
  readonly #withheld = new WeakMap<CatalogueEntry, number>();
  readonly #narInfos: OfferedNarInfos;
  readonly #unwatch: () => void;
  readonly #stop = new AbortController();
  #isLookingAtAll = false;
  /** Version of the catalogue of which all was looked at. */
  #lookedAt = -1;

  constructor(options: NarOfferOptions) {
    super();
    this.#options = options;
    this.#narInfos = new OfferedNarInfos(options);
    this.#unwatch = options.catalogue.watch(({ fileHash }) => this.#onNews(fileHash));
    options.held.onNews = (prefix, piece) => {
      if (piece === undefined) this.emit('news', prefix);
      else this.emit('piece', prefix, piece);
    };
  }

  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined {
    const { held, catalogue, gate } = this.#options;
    const found = held.holds(prefix);
    if (found === 'whole') return found;
    const entries = catalogue.byTail(tailOfPrefix(prefix));
    if (entries.some((entry) => gate.hasPassed(entry))) return 'whole';
    for (const entry of entries) this.#checkSoon(prefix, entry);
    return found;
  }

  /** True for an entry that the gate has let through: nobody has to wait for a look at it. */
  hasPassed(entry: CatalogueEntry): boolean {
    return this.#options.gate.hasPassed(entry);
  }

  /** Has the gate look at everything in the catalogue, in the background and without hurry. */
  lookAtAll(): void {
    if (!this.#isLookingAtAll) void this.#lookAtAll().catch(() => undefined); // closed
  }

  async open(file: FileHash | FilePrefix, { from, length }: Asked): Promise<OfferedFile | Refusal> {
    const { held, catalogue, served, gate } = this.#options;
    const isWhole = isFileHash(file);
    const prefix = isWhole ? prefixOf(file) : file;
    const own = held.open(prefix, { from, length });
    if (own !== undefined) return own;
    const entries = catalogue.byTail(isWhole ? tailOf(file) : tailOfPrefix(file));
    for (const entry of entries) {
      if ((isWhole && entry.fileHash !== file) || this.#isWithheld(entry)) continue;
      const opened = await gate.open(entry);
      if (opened === undefined) {
        this.#withhold(entry);
        continue;
      }
      served.note(basename(opened.path), entry.fileHash);
      return opened.file;
    }
    return 'absent'; // whatever the reason: that something private is here is nobody's business
  }

  narInfo(hash: StoreHash): Promise<string | undefined> {
    return this.#narInfos.read(hash);
  }

  /** Ends what is done in the background. */
  close(): void {
    this.#stop.abort();
    this.#unwatch();
    this.#checks.clear();
  }

  #onNews(file: FileHash): void {
    if (this.listenerCount('news') > 0) this.emit('news', prefixOf(file));
  }

  /** Has the gate look at an entry, and tells if it lets it through. */
  #checkSoon(prefix: FilePrefix, entry: CatalogueEntry): void {
    if (this.#checking.has(entry) || this.#isWithheld(entry)) return;
    this.#checking.add(entry);
    void this.#checks.add(async () => {
      const passed = await this.#pass(entry).catch(() => undefined);
      this.#checking.delete(entry);
      if (passed !== undefined) this.emit('news', prefix);
    });
  }

  /** Returns true for an entry that the gate has just refused: asking for it again costs nothing. */
  #isWithheld(entry: CatalogueEntry): boolean {
    return performance.now() < (this.#withheld.get(entry) ?? 0);
  }

  async #lookAtAll(): Promise<void> {
    const { catalogue, gate } = this.#options;
    const { version } = catalogue;
    if (version === this.#lookedAt) return;
    this.#isLookingAtAll = true;
    try {
      for (const entry of catalogue.entries()) {
        if (gate.hasPassed(entry) || this.#isWithheld(entry)) continue;
        if ((await this.#pass(entry).catch(() => undefined)) !== undefined) this.#onNews(entry.fileHash);
        await sleep(UNHURRIED_MS, undefined, { signal: this.#stop.signal, ref: false });
      }
      this.#lookedAt = version;
    } finally {
      this.#isLookingAtAll = false;
    }
  }

  async #pass(entry: CatalogueEntry): ReturnType<Gate['pass']> {
    const passed = await this.#options.gate.pass(entry);
    if (passed === undefined) this.#withhold(entry);
    return passed;
  }

  #withhold(entry: CatalogueEntry): void {
    this.#withheld.set(entry, performance.now() + CHECK_AGAIN_MS);
  }
}

function isFileHash(file: FileHash | FilePrefix): file is FileHash {
  return file.length === 52;
}

/** The tail of all files with that prefix: 60 of its 64 bits. */
function tailOfPrefix(prefix: FilePrefix): string {
  return tailOf(encodeNix32(Buffer.from(prefix, 'hex')));
}
