import { prefixOf, type FilePrefix } from '../exchange/messages.ts';
import type { OfferedFile } from '../exchange/offer.ts';
import { PieceSet } from '../exchange/piece-set.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { isAddressedBesideNarHash } from '../nix/content-address.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { BackgroundReader } from './background-reader.ts';
import { CHECK_PATIENCE_MS } from './gate.ts';
import type { SharedNars } from './shared-nars.ts';
import { StoreFile } from './store-file.ts';
import { narContentsOf } from '../store/hash-nar.ts';
import { withinMs } from '../within.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';

/** A NAR of the file store that the catalogue may not list yet. */
export interface HeldNar {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** Its torrent, if its pieces are known. */
  readonly torrent?: NarTorrent | undefined;
  /** Absolute path of the file, whose SHA-256 was checked. */
  readonly path: string;
  /** The narinfo that it was fetched for, with a signature that was checked. */
  readonly info: NarInfo;
  /** Whether every byte of it came from members: they are given no byte that their group has not already. */
  readonly isOfMembers?: boolean | undefined;
}

/** A NAR that is being fetched, piece by piece. */
export interface BegunNar extends Pick<HeldNar, 'fileHash' | 'sizeBytes' | 'info'> {
  /** Gives bytes of pieces that are here; rejects if they are not, or no longer. */
  readonly read: (offset: number, lengthBytes: number) => Promise<Uint8Array>;
}

interface Held extends HeldNar {
  /** Whether it may be given to others: asked when the first peer wants it, as the next. */
  isShared: Promise<boolean> | undefined;
  /** Whether its contents are the signed ones. */
  isSound: Promise<boolean> | undefined;
  /** True once both are known, and it may be given to members. */
  isFree: boolean;
}

/**
 * The NARs that a running fetch has in the store, for the members of the cohort that want them at once. A FileHash is not
 * signed: what a peer asks for is decompressed first, with the processor time that the fetch leaves, unless Nix has
 * imported it by then. Nothing is decompressed that nobody asks for. What came from members alone, whole or in verified
 * pieces, goes to members at once: no byte of it gets where it was not.
 */
export class HeldNars implements AsyncDisposable {
  readonly #shared: Pick<SharedNars, 'includes'>;
  readonly #held = new Map<FilePrefix, Held>();
  readonly #begun = new Map<FilePrefix, { readonly nar: BegunNar; readonly pieces: PieceSet; isShared: boolean }>();
  readonly #byInfoHash = new Map<InfoHash, Held>();
  readonly #byPath = new Map<string, FilePrefix>();
  readonly #reader = new BackgroundReader();
  /** Paths whose contents somebody else has checked. */
  readonly #sound = new Set<string>();
  /** Called if something may be given to members that could not before, or if that may be so. */
  onNews: (prefix: FilePrefix, piece?: number) => void = () => undefined;

  constructor(shared: Pick<SharedNars, 'includes'>) {
    this.#shared = shared;
  }

  /** Returns true if others may hear of the NAR of a narinfo. Never throws. */
  isShared(info: NarInfo): Promise<boolean> {
    return this.#shared.includes(info);
  }

  /** Takes in a NAR whose SHA-256 was checked. */
  add(nar: HeldNar): void {
    const { info, fileHash, torrent } = nar;
    // Without compression FileHash is NarHash.
    const isKnown = info.compression === 'none' && isSameHash(nar) && !isAddressedBesideNarHash(info);
    const held = { ...nar, isShared: undefined, isSound: isKnown ? Promise.resolve(true) : undefined, isFree: false };
    const prefix = prefixOf(fileHash);
    this.#held.set(prefix, held);
    this.#byPath.set(info.storePath, prefix);
    if (torrent !== undefined) this.#byInfoHash.set(torrent.infoHash, held);
    this.onNews(prefix);
  }

  /**
   * Takes in a NAR whose first verified piece from a member is on its way.
   *
   * @returns `add` to be called with each piece that came from a member and was verified, and `end` when the NAR is whole or
   *   given up, or pieces of it came from elsewhere
   */
  begin(nar: BegunNar): { readonly add: (index: number) => void; readonly end: () => void } {
    const prefix = prefixOf(nar.fileHash);
    const begun = { nar, pieces: new PieceSet(nar.sizeBytes), isShared: false };
    this.#begun.set(prefix, begun);
    const tell = (index: number): void => {
      if (begun.isShared && this.#begun.get(prefix) === begun) this.onNews(prefix, index);
    };
    void this.#shared.includes(nar.info).then((isShared) => {
      begun.isShared = isShared;
      for (let index = 0; index < begun.pieces.total; index++) if (begun.pieces.has(index)) tell(index);
    });
    return {
      add: (index) => {
        begun.pieces.add(index);
        tell(index);
      },
      end: () => {
        if (this.#begun.get(prefix) === begun) this.#begun.delete(prefix);
      },
    };
  }

  /** Notes that the contents of a path's NAR were checked by NarHash: Nix has imported it, or somebody has looked into it. */
  noteSound(path: string): void {
    this.#sound.add(path);
    const prefix = this.#byPath.get(path);
    if (prefix !== undefined) this.onNews(prefix);
  }

  /** Of the torrents of all NARs that are held. */
  infoHashes(): IterableIterator<InfoHash> {
    return this.#byInfoHash.keys();
  }

  /** The NAR behind an infohash, or undefined if it may not, or not yet, be served. */
  async seed(infoHash: InfoHash): Promise<Seed | undefined> {
    const held = this.#byInfoHash.get(infoHash);
    if (held?.torrent === undefined) return undefined;
    const { torrent, path, sizeBytes } = held;
    if ((await withinMs(CHECK_PATIENCE_MS, this.#isFree(held, false))) !== true) return undefined;
    return { torrent, files: [{ path, sizeBytes }] };
  }

  /** What a member may have at once of a file. One that has still to be looked into is told of by `onNews`. */
  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined {
    const held = this.#held.get(prefix);
    if (held?.isFree === true) return 'whole';
    if (held !== undefined) void this.#free(prefix, held);
    const begun = this.#begun.get(prefix);
    return begun?.isShared === true && begun.pieces.count > 0 ? begun.pieces : undefined;
  }

  /** Opens a file, or the pieces of it that are here, for a member. */
  open(prefix: FilePrefix, range: { readonly from: number; readonly length: number }): OfferedFile | undefined {
    const found = this.holds(prefix);
    const held = this.#held.get(prefix);
    if (found === 'whole' && held !== undefined)
      return StoreFile.open(held.path, { prefix, sizeBytes: held.sizeBytes });
    const begun = this.#begun.get(prefix);
    if (found === undefined || found === 'whole' || begun === undefined) return undefined;
    return found.hasRange(range.from, range.length) ? new PartOf(prefix, begun.nar) : undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#reader.close();
  }

  /** Finds out if a file may be given to members, and tells if so. */
  async #free(prefix: FilePrefix, held: Held): Promise<void> {
    if (!(await this.#isFree(held, held.isOfMembers === true)) || held.isFree) return;
    held.isFree = true;
    if (this.#held.get(prefix) === held) this.onNews(prefix);
  }

  /** Whether a NAR may be given to others. @param isKnown its contents need not be looked into */
  async #isFree(held: Held, isKnown: boolean): Promise<boolean> {
    held.isShared ??= this.#shared.includes(held.info);
    if (!(await held.isShared)) return false;
    if (isKnown || this.#sound.has(held.info.storePath)) return true;
    held.isSound ??= this.#lookInto(held);
    return held.isSound;
  }

  async #lookInto({ fileHash, path, info }: HeldNar): Promise<boolean> {
    const found = await this.#reader.read(path, narContentsOf(info), 'now').catch(() => undefined); // without xz nothing is served
    return found !== undefined && 'fileHash' in found && found.fileHash === fileHash && isOf(found, info);
  }
}

/** The pieces that are here of a NAR on its way. */
class PartOf implements OfferedFile {
  readonly prefix: FilePrefix;
  readonly #nar: BegunNar;

  constructor(prefix: FilePrefix, nar: BegunNar) {
    this.prefix = prefix;
    this.#nar = nar;
  }

  get sizeBytes(): number {
    return this.#nar.sizeBytes;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    const bytes = await this.#nar.read(offset, target.length);
    if (bytes.length !== target.length) throw new RangeError('these bytes are not here');
    target.set(bytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

function isOf({ narHash }: { readonly narHash?: string | undefined }, info: NarInfo): boolean {
  return narHash === info.narHash;
}

function isSameHash({ fileHash, info }: HeldNar): boolean {
  const text: string = fileHash;
  return text === info.narHash;
}
