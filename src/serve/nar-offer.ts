import { EventEmitter } from 'node:events';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import PQueue from 'p-queue';
import { isFileHash, prefixOf, type FilePrefix, type Refusal } from '../exchange/messages/messages.ts';
import type { Asked, Offer, OfferedFile, OfferEvents } from '../exchange/answers/offer.ts';
import type { PieceSet } from '../exchange/messages/piece-set.ts';
import type { OfferedEditions } from '../index/files/editions.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import { encodeNix32 } from '../nix/nix32.ts';
import { tailOf, type Catalogue } from '../store/catalogue/catalogue.ts';
import type { CatalogueEntry } from '../store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../store/file-store.ts';
import type { LastServed } from '../store/catalogue/last-served.ts';
import type { Gate } from './gate.ts';
import type { HeldNars } from './held-nars.ts';
import type { NarsHere } from './nars-here.ts';
import { OfferedNarInfos } from './offered-narinfos.ts';
import type { OfferedPatches } from './offered-patches.ts';
import type { SharedNars } from './shared-nars.ts';
import { StoreFile } from './store-file.ts';

/**
 * Limit on entries that the gate checks in the background at a time. Each takes a small file to read and a signature to
 * check.
 */
const CHECKS_AT_ONCE = 4;
/**
 * Pause between two checks that nobody waits for. A check takes a third of a millisecond, so they use one hundredth of
 * a processor.
 */
const UNHURRIED_MS = 30;
/** Pause before an entry that the gate refused is checked again. */
const CHECK_AGAIN_MS = 10_000;

export interface NarOfferOptions {
  readonly store: FileStore;
  readonly catalogue: Catalogue;
  readonly gate: Gate;
  readonly held: HeldNars;
  readonly shared: Pick<SharedNars, 'judge' | 'stillHolds'>;
  /** The NARs that can be given now: members get the narinfos of these. */
  readonly here: Pick<NarsHere, 'has'>;
  readonly served: LastServed;
  /** Patches of these NARs. Default: none. */
  readonly patches?: Pick<OfferedPatches, 'look' | 'holds' | 'open' | 'onNews'> | undefined;
  /** Editions of hash maps, whose files are offered, too. */
  readonly maps: Pick<OfferedEditions, 'manifest' | 'shard'>;
}

/**
 * The NARs and narinfos that members may get: NARs of the store that the gate lets out, and NARs of a running fetch.
 */
export class NarOffer extends EventEmitter<OfferEvents> implements Offer {
  readonly #options: NarOfferOptions;
  readonly #checks = new PQueue({ concurrency: CHECKS_AT_ONCE });
  readonly #checking = new Set<CatalogueEntry>();
  /** Refused entries, and when they may be tried again (`performance.now`). */
  readonly #withheld = new WeakMap<CatalogueEntry, number>();
  readonly #narInfos: OfferedNarInfos;
  readonly #unwatch: () => void;
  readonly #stop = new AbortController();
  #isLookingAtAll = false;
  /** Version of the catalogue that was checked completely. */
  #lookedAt = -1;

  constructor(options: NarOfferOptions) {
    super();
    this.#options = options;
    this.#narInfos = new OfferedNarInfos(options);
    this.#unwatch = options.catalogue.watch(({ fileHash }) => {
      this.#onNews(fileHash);
      options.patches?.look(); // a fetch that used patches has just committed
    });
    if (options.patches !== undefined) options.patches.onNews = (prefix) => this.emit('news', prefix);
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
    if (entries.some((entry) => gate.isOffered(entry))) return 'whole';
    for (const entry of entries) this.#checkSoon(prefix, entry);
    return found ?? (this.#options.patches?.holds(prefix) === true ? 'whole' : undefined);
  }

  /** Returns true for an entry that the gate has let out, and that is still here: nobody has to wait for a check. */
  hasPassed(entry: CatalogueEntry): boolean {
    return this.#options.gate.isOffered(entry);
  }

  /** Makes the gate check the whole catalogue, in the background and without hurry. */
  lookAtAll(): void {
    if (!this.#isLookingAtAll) void this.#lookAtAll().catch(() => undefined); // closed
  }

  async open(file: FileHash | FilePrefix, { from, length }: Asked): Promise<OfferedFile | Refusal> {
    const { held, catalogue, served, gate, patches, maps } = this.#options;
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
      if (opened.path !== undefined) served.note(basename(opened.path), entry.fileHash);
      return opened.file;
    }
    const patch = await patches?.open(file);
    if (patch !== undefined) return patch;
    const shard = isWhole ? maps.shard(file) : undefined;
    const opened = shard && StoreFile.open(shard.path, { prefix, sizeBytes: shard.sizeBytes });
    if (opened !== undefined) return opened;
    return 'absent'; // also for private files: nobody learns that they are here
  }

  /** Also gives the manifest of an edition, by the infohash of its torrent. */
  async narInfo(hash: StoreHash): Promise<string | undefined> {
    return (await this.#options.maps.manifest(hash)) ?? this.#narInfos.read(hash);
  }

  /** Ends the work in the background. */
  close(): void {
    this.#stop.abort();
    this.#unwatch();
    this.#checks.clear();
  }

  #onNews(file: FileHash): void {
    if (this.listenerCount('news') > 0) this.emit('news', prefixOf(file));
  }

  /** Makes the gate check an entry. Tells the members if it lets it out. */
  #checkSoon(prefix: FilePrefix, entry: CatalogueEntry): void {
    if (this.#checking.has(entry) || this.#isWithheld(entry) || this.#options.gate.isGone(entry)) return;
    this.#checking.add(entry);
    void this.#checks.add(async () => {
      const passed = await this.#pass(entry).catch(() => undefined);
      this.#checking.delete(entry);
      if (passed !== undefined) this.emit('news', prefix);
    });
  }

  /** Returns true for an entry that the gate refused recently, so that asking for it again costs nothing. */
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
    if (this.#options.gate.isGone(entry)) return; // to ask again costs nothing, and the path may come back
    this.#withheld.set(entry, performance.now() + CHECK_AGAIN_MS);
  }
}

/** Returns the tail that all files with this prefix share: 60 of its 64 bits. */
function tailOfPrefix(prefix: FilePrefix): string {
  return tailOf(encodeNix32(Buffer.from(prefix, 'hex')));
}
