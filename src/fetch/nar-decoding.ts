import type { NarInfo } from '../nix/narinfo.ts';
import type { FileStore } from '../store/file-store.ts';
import type { FileHash, StorePath } from '../nix/brands.ts';
import type { ImportFolder } from '../store/import-folder.ts';
import type { PartialNar } from '../store/partial.ts';
import { XzDecoders } from '../store/xz-decoders.ts';
import { ArrivingDecoders } from './arriving-decoders.ts';

/** Sizes of the NARs that wait for a processor from which on a Nix that decodes gets them as they are. */
const LEFT_TO_NIX_BYTES = 32 * 1024 ** 2;
/** Part of the room for NARs that cannot be imported yet. The rest is for those that can, and make room. */
const AHEAD_PART = 0.5;

export interface NarDecodingOptions {
  readonly store: FileStore;
  readonly folder: ImportFolder;
  /** Bound on the decoded NARs that wait for Nix. */
  readonly maxBytes: number;
  /** True if Nix decodes several NARs at a time. */
  readonly doesNixDecode: boolean;
  /** NARs of this size are decoded before their references have arrived. Default: 0. */
  readonly aheadBytes?: number | undefined;
  readonly placeOf: (info: NarInfo) => number;
  /** Called when a processor gets free. */
  readonly onFree: () => void;
  readonly signal: AbortSignal;
}

/** A path whose NAR is in the file store. */
export interface ArrivedNar {
  /** Its narinfo, with the store's name of the NAR. */
  readonly info: NarInfo;
  readonly file: { readonly fileHash: FileHash };
  /** References that are not begun and not in the target. */
  missing: number;
  /** Resolves once the import folder has its decoded NAR, with false if that is not possible. Undefined: not tried. */
  decoded: Promise<boolean> | undefined;
}

/** Returns true for a NAR that can be decoded here. */
export function isDecodable({ compression }: Pick<NarInfo, 'compression'>): boolean {
  return compression === 'xz';
}

/** Decides which NARs of an import are decoded here, and when. Nix decodes the others. */
export class NarDecoding implements AsyncDisposable {
  readonly #options: NarDecodingOptions;
  readonly #decoders: XzDecoders;
  readonly #arriving: ArrivingDecoders;

  constructor(options: NarDecodingOptions) {
    this.#options = options;
    this.#decoders = new XzDecoders(options.maxBytes, options.signal);
    this.#arriving = new ArrivingDecoders(this.#decoders, AHEAD_PART, options.onFree);
  }

  /** True while it decodes. */
  get isBusy(): boolean {
    return this.#decoders.isBusy;
  }

  /** Decodes a NAR that has begun to arrive, if it is large. */
  follow(info: NarInfo, partial: PartialNar): void {
    const { narSize, storePath } = info;
    if (!isDecodable(info) || partial.isInMemory) return;
    const { folder, placeOf } = this.#options;
    this.#arriving.add({ storePath, partial, to: folder.decodedPath(info), narSize, place: placeOf(info) });
    this.#arriving.run();
  }

  /** Ends the decoding of all NARs but these, since no others will arrive. */
  endOthers(arrived: ReadonlySet<StorePath>): Promise<void> {
    return this.#arriving.endOthers(arrived);
  }

  /**
   * Returns true if a NAR can be made ready now, with {@link makeReady}.
   *
   * @param waitingBytes sizes of all NARs that wait for that
   */
  mayBegin(nar: ArrivedNar, waitingBytes: number): boolean {
    if (nar.decoded !== undefined || this.#mayDecode(nar)) return true;
    const { doesNixDecode } = this.#options;
    return !this.#canDecode(nar.info) || (doesNixDecode && waitingBytes > LEFT_TO_NIX_BYTES);
  }

  /** Puts a NAR into the import folder. @returns true if it is decoded there @throws if it must be and cannot be */
  async makeReady(nar: ArrivedNar): Promise<boolean> {
    const { info } = nar;
    const { folder, doesNixDecode } = this.#options;
    if (this.#mayDecode(nar) || this.#arriving.has(info.storePath)) nar.decoded ??= this.#decode(nar);
    const isDecoded = (await nar.decoded) === true;
    if (!isDecoded && this.#canDecode(info) && !doesNixDecode)
      throw new Error(`the NAR of ${info.storePath} cannot be decoded`);
    await (isDecoded ? folder.addDecoded(info) : folder.addEncoded(info));
    return isDecoded;
  }

  /**
   * Uses free processors: for NARs whose references have not arrived, and for those that are arriving. If Nix can
   * decode, the former only while it has nothing to do.
   *
   * @param isNixBusy true while Nix imports
   * @returns what it has begun
   */
  decodeAhead(nars: Iterable<ArrivedNar>, isNixBusy: boolean): Promise<unknown>[] {
    const { aheadBytes = 0, doesNixDecode } = this.#options;
    const begun: Promise<unknown>[] = [];
    for (const nar of nars) {
      const { missing, decoded, info } = nar;
      if (!this.#decoders.isFree) break;
      if (missing === 0 || decoded !== undefined || !isDecodable(info) || info.narSize < aheadBytes) continue;
      const hasBegun = this.#arriving.has(info.storePath);
      if (!hasBegun && ((doesNixDecode && isNixBusy) || !this.#decoders.hasRoom(info.narSize, AHEAD_PART))) continue;
      nar.decoded = this.#decode(nar);
      begun.push(nar.decoded);
    }
    this.#arriving.run();
    return begun;
  }

  /** Gives back the room of a NAR that is imported. */
  release({ info, decoded }: ArrivedNar): void {
    if (decoded !== undefined) this.#decoders.release(info.narSize);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#arriving[Symbol.asyncDispose]();
    await this.#decoders[Symbol.asyncDispose]();
  }

  #canDecode(info: NarInfo): boolean {
    return isDecodable(info) && this.#decoders.mayHold(info.narSize);
  }

  /** Returns true if a NAR can be decoded now. */
  #mayDecode({ info }: ArrivedNar): boolean {
    if (!this.#canDecode(info) || !this.#decoders.isFree) return false;
    return this.#arriving.has(info.storePath) || this.#decoders.hasRoom(info.narSize);
  }

  async #decode({ info, file }: ArrivedNar): Promise<boolean> {
    const begun = this.#arriving.take(info.storePath);
    if (begun === undefined) this.#decoders.hold(info.narSize);
    else if (await this.#decoders.occupy(() => begun.finish(file.fileHash))) return true;
    const { store, folder } = this.#options;
    return this.#decoders.decode(store.narPath(info), folder.decodedPath(info), info.narSize);
  }
}
