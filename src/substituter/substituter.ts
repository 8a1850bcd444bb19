import type { OfferedFile } from '../exchange/answers/offer.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import { formatCacheInfo } from '../nix/cache-info.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { parseStoreHash } from '../nix/store-path.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import type { FileHere, NarsHere } from '../serve/nars-here.ts';
import { readRealisation } from '../store/realisations.ts';
import { FileStore } from '../store/file-store.ts';
import { isRealisationFile, isTrustedRealisation, type Realisation } from '../nix/realisation.ts';
import { asError, type Warn } from '../warning.ts';
import { withinMs } from '../within.ts';
import { Activity, type ActivityMeans } from './activity.ts';
import type { Arrival } from './arrival.ts';
import { DecodedNars, type GivenNar, type NarFile } from './decoded-nars.ts';
import { Given } from './given.ts';
import { GuestFiles } from './guest-files.ts';
import { textOf, uncompressed } from './narinfo-text.ts';
import { NarInfoMemory } from './narinfo-memory.ts';
import { Room } from './room.ts';
import { ToldOnce } from './told-once.ts';

/**
 * Lower numbers are asked first. A cache that names none has 0, and among equals Nix keeps to the order of nix.conf;
 * cache.nixos.org has 40.
 */
const PRIORITY = 0;
/** Time for the sources to find a narinfo, or a realisation. Nix then asks its next substituter. */
const FIND_MS = 4_000;
/** Time without a request after which fetches end: if a NAR was requested before, and if none was. */
const IDLE_MS = 60_000;
const LOOKING_MS = 10_000;
const LOOK_EVERY_MS = 1_000;

export interface SubstituterOptions extends Omit<ActivityMeans, 'tell' | 'onArriving' | 'onCame'> {
  readonly onWarning: Warn;
  /** Takes all events of its fetches. */
  readonly onEvent?: ActivityMeans['tell'] | undefined;
  /** Called when fetches have ended. They may have left new NARs in the store. */
  readonly onEnded?: () => void;
  /** Milliseconds without a request after which fetches end if a NAR was requested before. Default: 60,000. */
  readonly idleMs?: number;
  /** Milliseconds without a request after which fetches end if no NAR was requested before. Default: 10,000. */
  readonly lookingMs?: number;
}

/** The client that asks. */
export interface Client {
  /** True if it is on this machine. Others get only shared NARs. */
  readonly isLocal: boolean;
  /** True for narswarm itself. It asks other sources itself, so it gets only NARs that are here. */
  readonly isNarswarm: boolean;
  /** True if it only asks whether something is there. */
  readonly onlyAsks: boolean;
  /** True for a Nix that takes and decodes one NAR after another. */
  readonly isSerial: boolean;
}

/** A NAR file as its URL names it. */
export interface WantedNar {
  readonly fileHash: FileHash;
  readonly extension: string;
  /** The path whose narinfo named it. */
  readonly storeHash: StoreHash | undefined;
  /** True if the NAR itself is wanted, and not the file. */
  readonly isDecoded: boolean;
}

/** A NAR for a client. If it is not here yet, `leave` is called once the answer has ended, however it has. */
export type FoundNar =
  | Extract<NarFile, { kind: 'here' }>
  | { readonly kind: 'in-nix'; readonly file: OfferedFile }
  | (Extract<NarFile, { kind: 'arriving' }> & Pick<GivenNar, 'leave'>)
  | ({ readonly kind: 'decoded' } & GivenNar);

/**
 * The answers of a binary cache that serves the file store, and fetches everything else when it is asked for. The first
 * question about a path begins the fetch of its whole closure.
 */
export class Substituter implements AsyncDisposable {
  /** NARs and bytes given over HTTP so far. */
  readonly given = new Given();
  readonly #options: SubstituterOptions;
  readonly #memory = new NarInfoMemory();
  readonly #timer: NodeJS.Timeout;
  readonly #warnings: ToldOnce;
  readonly #decoded: DecodedNars;
  readonly #room: Room;
  readonly #guestFiles: GuestFiles;
  #activity: Promise<Activity> | undefined;
  #open: Activity | undefined;
  #askedAtMs = 0;
  #hasServed = false;
  #isClosed = false;

  constructor(options: SubstituterOptions) {
    this.#options = options;
    this.#warnings = new ToldOnce(options.onWarning);
    this.#decoded = new DecodedNars({ store: options.store });
    this.#room = new Room(options.store.dir);
    this.#guestFiles = new GuestFiles(options.offer);
    const everyMs = Math.min(LOOK_EVERY_MS, options.lookingMs ?? LOOKING_MS);
    this.#timer = setInterval(() => {
      this.#open?.arrivals.notePassed(everyMs);
      this.#look();
    }, everyMs).unref();
  }

  /** The contents of `nix-cache-info`. */
  get cacheInfo(): string {
    return formatCacheInfo({ storeDir: this.#options.store.storeDir, wantMassQuery: true, priority: PRIORITY });
  }

  /** The NARs that are arriving. */
  get arriving(): Iterable<Arrival> {
    return this.#open?.arrivals.begun() ?? [];
  }

  /** Returns the narinfo of a path, naming the file as {@link nar} knows it. Undefined if no source has it. Never throws. */
  async narInfo(hash: StoreHash, client: Client): Promise<string | undefined> {
    this.#options.offer.checker.giveWay();
    const held = await this.#held(hash);
    if (held !== undefined) return (await this.#mayHave(held, client)) ? this.#textFor(client, held) : undefined;
    const inNix = await this.#inNix(hash, client);
    await inNix?.file[Symbol.asyncDispose]();
    if (inNix !== undefined) return textOf(inNix.info, false);
    if (client.isNarswarm || this.#memory.isAbsent(hash)) return undefined;
    const untilMs = performance.now() + FIND_MS;
    const activity = await withinMs(FIND_MS, this.#begin());
    const info = await activity?.lookups.findWithin(untilMs - performance.now(), hash);
    if (activity === undefined || info === undefined || !(await this.#mayHave(info, client))) return undefined;
    if (!(await this.#canCome(info, activity))) return undefined;
    const text = await this.#textFor(client, info);
    if (text === undefined || client.onlyAsks) return text;
    if (client.isLocal) void activity.lookAhead.begin(info);
    else activity.arrivals.want([info]); // it is unknown what else that machine lacks
    return text;
  }

  /** Finds a NAR file. Undefined if no source has it. Never throws. */
  async nar(wanted: WantedNar, client: Client): Promise<FoundNar | undefined> {
    this.#options.offer.checker.giveWay();
    const { here } = this.#options.offer;
    const named = client.isLocal && !wanted.isDecoded ? await here.named(wanted.fileHash, wanted.extension) : undefined;
    if (named !== undefined) return { kind: 'here', ...named };
    const inNix = wanted.extension === '' && wanted.storeHash && (await this.#inNix(wanted.storeHash, client));
    if (inNix && inNix.info.fileHash === wanted.fileHash) return { kind: 'in-nix', file: inNix.file };
    const info = wanted.storeHash && (await this.#infoOf(wanted.storeHash, client));
    const file = await this.#file(wanted, info, client);
    if (file === undefined) return undefined;
    if (!wanted.isDecoded) return file.kind === 'here' ? file : { ...file, leave: file.arrival.readers.enter() };
    if (!client.isLocal || info === undefined || namedFile(info)?.fileHash !== wanted.fileHash) return undefined;
    this.#askedAtMs = performance.now();
    const given = this.#decoded.get(info, file);
    return given && { kind: 'decoded', ...given };
  }

  async #file(
    { fileHash, extension }: WantedNar,
    info: NarInfo | undefined,
    client: Client,
  ): Promise<NarFile | undefined> {
    const { here } = this.#options.offer;
    const isIt = info !== undefined && namedFile(info)?.fileHash === fileHash;
    if (!client.isLocal && !(isIt && (await this.#mayHave(info, client)))) return undefined;
    const mayLeave = async (): Promise<boolean> => client.isLocal || this.#guestFiles.mayHave(info, fileHash);
    const file = await (isIt ? fileOf(info, here) : here.named(fileHash, extension));
    if (file !== undefined) return (await mayLeave()) ? { kind: 'here', ...file } : undefined;
    if (client.isNarswarm) return undefined;
    const activity = isIt ? await this.#begin() : this.#open;
    if (activity === undefined) return undefined;
    this.#hasServed = true;
    activity.lookAhead.noteWanted();
    if (isIt) activity.arrivals.want([info], { isUrgent: true });
    activity.arrivals.hurry(fileHash);
    const arrival = activity.arrivals.get(fileHash);
    if (arrival !== undefined) return { kind: 'arriving', arrival };
    const arrived = await here.named(fileHash, extension); // meanwhile
    return arrived && (await mayLeave()) ? { kind: 'here', ...arrived } : undefined;
  }

  /** Returns the contents of a realisation's file. Undefined if no source has it. Never throws. */
  async realisation(file: string, client: Client): Promise<string | undefined> {
    if (!isRealisationFile(file)) return undefined;
    const { store, keys } = this.#options;
    const held = await readRealisation(file, store).catch(() => undefined);
    if (held !== undefined && isTrustedRealisation(held, keys))
      return (await this.#mayKnow(held, client)) ? held.text : undefined;
    if (client.isNarswarm || !client.isLocal) return undefined;
    const asked = this.#begin().then((activity) => activity?.realisation(file));
    return withinMs(FIND_MS, asked).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#end();
    await this.#decoded[Symbol.asyncDispose]();
  }

  /** Returns the narinfo of a path whose NAR is a file of the store. */
  async #held(hash: StoreHash): Promise<NarInfo | undefined> {
    const { store, offer } = this.#options;
    const info = await store.readNarInfo(hash).catch(() => undefined);
    return info && (await fileOf(info, offer.here)) && info;
  }

  /** Returns the uncompressed NAR of a path in the Nix store, whose file the store has released, and its narinfo. */
  async #inNix(hash: StoreHash, { isLocal }: Client): Promise<{ info: NarInfo; file: OfferedFile } | undefined> {
    const { store, offer } = this.#options;
    const info = await store.readNarInfo(hash).catch(() => undefined);
    const file = info && (await offer.inNix(info, { isShared: !isLocal }).catch(() => undefined));
    return info && file && { info: uncompressed(info), file };
  }

  async #infoOf(hash: StoreHash, client: Client): Promise<NarInfo | undefined> {
    const here = this.#memory.get(hash) ?? (await this.#held(hash));
    if (here !== undefined || client.isNarswarm) return here;
    return (await this.#begin())?.lookups.findWithin(FIND_MS, hash);
  }

  /** Writes the narinfo for a client. A Nix that decodes one NAR after another gets large ones decoded. */
  async #textFor({ isLocal, isSerial }: Client, info: NarInfo): Promise<string | undefined> {
    return textOf(info, isLocal && isSerial && (await this.#decoded.mayDecode(info)));
  }

  async #mayHave(info: NarInfo, { isLocal }: Client): Promise<boolean> {
    return isLocal || this.#options.offer.isShared(info);
  }

  /** Another machine hears only of shared paths, also if it knows their derivation. */
  async #mayKnow({ outPath }: Realisation, client: Client): Promise<boolean> {
    if (client.isLocal) return true;
    const info = await this.#options.store.readNarInfo(parseStoreHash(outPath.slice(0, 32))).catch(() => undefined);
    return info !== undefined && this.#mayHave(info, client);
  }

  /** Returns true if a NAR is on its way, or there is room for it. Otherwise Nix would ask for it in vain. */
  async #canCome(info: NarInfo, { arrivals }: Activity): Promise<boolean> {
    const file = namedFile(info);
    const isArriving = file !== undefined && arrivals.get(file.fileHash)?.partial !== undefined;
    return isArriving || this.#room.isFor(info);
  }

  /** Opens the means to ask others. Undefined if that fails. */
  async #begin(): Promise<Activity | undefined> {
    this.#askedAtMs = performance.now();
    if (this.#isClosed) return undefined;
    const { onEvent } = this.#options;
    const onArriving: ActivityMeans['onArriving'] = (arrival) => this.#decoded.follow(arrival);
    const tell: ActivityMeans['tell'] = (event) => {
      onEvent?.(event);
      if (event.type === 'nar-bytes') this.#open?.arrivals.noteBytes();
      if (event.type === 'warning') this.#warnings.take(event.warning);
    };
    const onCame: ActivityMeans['onCame'] = (file) => this.#guestFiles.note(file);
    this.#activity ??= Activity.open({ ...this.#options, tell, onArriving, onCame }, this.#memory).then(
      (activity) => (this.#open = activity),
    );
    try {
      return await this.#activity;
    } catch (error) {
      this.#activity = undefined;
      this.#warnings.take({ kind: 'failed', error: asError(error) });
      return undefined;
    }
  }

  /** True while Nix waits for a NAR on its way, or receives it. */
  get isAwaited(): boolean {
    const arrivals = this.#open?.arrivals;
    return arrivals !== undefined && (arrivals.hasReaders || (this.#decoded.hasReaders && arrivals.size > 0));
  }

  /** Ends the activity if there are no more questions, and reports how often each warning was repeated. */
  #look(): void {
    const { idleMs = IDLE_MS, lookingMs = LOOKING_MS } = this.#options;
    if (performance.now() - this.#askedAtMs <= (this.#hasServed ? idleMs : lookingMs)) return;
    const isOpening = this.#open === undefined && this.#activity !== undefined;
    if (isOpening || this.#decoded.hasReaders || this.#open?.arrivals.hasReaders === true) return;
    void this.#end();
  }

  async #end(): Promise<void> {
    const ending = this.#activity;
    this.#activity = undefined;
    this.#open = undefined;
    this.#hasServed = false;
    this.#decoded.endUnread();
    this.#memory.forgetAll();
    await (await ending?.catch(() => undefined))?.[Symbol.asyncDispose]();
    this.#warnings.flush();
    if (ending !== undefined && !this.#isClosed) this.#options.onEnded?.();
  }
}

/** Returns the file of a narinfo under the name that we give it. Undefined if it is not here. */
async function fileOf(info: NarInfo, here: NarsHere): Promise<FileHere | undefined> {
  const file = namedFile(info);
  return file && here.file(info, FileStore.narUrl(file.fileHash, file.extension));
}
