import { prefixOf, type FilePrefix } from '../exchange/messages/messages.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import { PieceSet } from '../exchange/messages/piece-set.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { isAddressedBesideNarHash } from '../nix/content-address.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { awaited, BackgroundReader } from './background-reader.ts';
import { CHECK_PATIENCE_MS } from './gate.ts';
import type { SharedNars } from './shared-nars.ts';
import { StoreFile } from './store-file.ts';
import { narContentsOf } from '../store/hashing/hash-nar.ts';
import { withinMs } from '../within.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';

/** A NAR of the file store that the catalogue may not list yet. */
export interface HeldNar {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** Its torrent. Undefined if its pieces are unknown. */
  readonly torrent?: NarTorrent | undefined;
  /** Absolute path of the file, whose SHA-256 was checked. */
  readonly path: string;
  /** The narinfo that it was fetched for, with a signature that was checked. */
  readonly info: NarInfo;
  /** True if every byte of it came from members: then members get no byte that their group does not have already. */
  readonly isOfMembers?: boolean | undefined;
}

/** A NAR that is being fetched, piece by piece. */
export interface BegunNar extends Pick<HeldNar, 'fileHash' | 'sizeBytes' | 'info'> {
  /** Returns bytes of pieces that are here. Rejects if they are not. */
  readonly read: (offset: number, lengthBytes: number) => Promise<Uint8Array>;
}

interface Held extends HeldNar {
  /** Resolves to true if it may be given to others. Set when the first peer asks for it. */
  isShared: Promise<boolean> | undefined;
  /** Resolves to true if its contents are the signed ones. Set when the first peer asks for it. */
  isSound: Promise<boolean> | undefined;
  /** True once both are decided and members may get it. */
  isFree: boolean;
}

/**
 * The NARs that a running fetch has in the store, for members of the cohort that want them at once. A FileHash is not
 * signed, so a requested NAR is decompressed and checked first, unless Nix has imported it by then. That takes only
 * processor time that the fetch leaves. Nothing is decompressed without a request. A NAR or verified piece that came
 * only from members goes to members at once: they have its bytes already.
 */
export class HeldNars implements AsyncDisposable {
  readonly #shared: Pick<SharedNars, 'includes'>;
  readonly #held = new Map<FilePrefix, Held>();
  readonly #begun = new Map<FilePrefix, { readonly nar: BegunNar; readonly pieces: PieceSet; isShared: boolean }>();
  readonly #byInfoHash = new Map<InfoHash, Held>();
  readonly #byPath = new Map<string, FilePrefix>();
  readonly #reader = new BackgroundReader();
  /** Paths whose contents were checked elsewhere. */
  readonly #sound = new Set<string>();
  /** Called with a file, or a piece of one, that members may now get, or may be able to get. */
  onNews: (prefix: FilePrefix, piece?: number) => void = () => undefined;

  constructor(shared: Pick<SharedNars, 'includes'>) {
    this.#shared = shared;
  }

  /** Returns true if others may hear of the NAR of a narinfo. Never throws. */
  isShared(info: NarInfo): Promise<boolean> {
    return this.#shared.includes(info);
  }

  /** Adds a NAR whose SHA-256 was checked. */
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
   * Adds a NAR that is being fetched. The first verified piece from a member is on its way.
   *
   * @returns `add`, to call with each verified piece from a member, and `end`, to call when the NAR is complete or
   *   given up, or when pieces came from elsewhere
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

  /** Records that the NAR of a path was checked by NarHash: Nix has imported it, or it was decompressed. */
  noteSound(path: string): void {
    this.#sound.add(path);
    const prefix = this.#byPath.get(path);
    if (prefix !== undefined) this.onNews(prefix);
  }

  /** Returns the infohashes of the held NARs. */
  infoHashes(): IterableIterator<InfoHash> {
    return this.#byInfoHash.keys();
  }

  /** Returns the NAR of an infohash. Undefined if it may not be served, or not yet. */
  async seed(infoHash: InfoHash): Promise<Seed | undefined> {
    const held = this.#byInfoHash.get(infoHash);
    if (held?.torrent === undefined) return undefined;
    const { torrent, path, sizeBytes } = held;
    if ((await withinMs(CHECK_PATIENCE_MS, this.#isFree(held, false))) !== true) return undefined;
    return { torrent, files: [{ path, sizeBytes }] };
  }

  /** Returns the parts of a file that a member may get now. `onNews` reports a file that must be checked first. */
  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined {
    const held = this.#held.get(prefix);
    if (held?.isFree === true) return 'whole';
    if (held !== undefined) void this.#free(prefix, held);
    const begun = this.#begun.get(prefix);
    return begun?.isShared === true && begun.pieces.count > 0 ? begun.pieces : undefined;
  }

  /** Opens a file for a member, or the pieces of it that are here. */
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

  /** Decides whether members may get a file, and tells them if so. */
  async #free(prefix: FilePrefix, held: Held): Promise<void> {
    if (!(await this.#isFree(held, held.isOfMembers === true)) || held.isFree) return;
    held.isFree = true;
    if (this.#held.get(prefix) === held) this.onNews(prefix);
  }

  /** Returns true if a NAR may be given to others. @param isKnown true if its contents need no check */
  async #isFree(held: Held, isKnown: boolean): Promise<boolean> {
    held.isShared ??= this.#shared.includes(held.info);
    if (!(await held.isShared)) return false;
    if (isKnown || this.#sound.has(held.info.storePath)) return true;
    held.isSound ??= this.#lookInto(held);
    return held.isSound;
  }

  async #lookInto({ fileHash, sizeBytes, path, info }: HeldNar): Promise<boolean> {
    const urgency = awaited(sizeBytes, info.narSize);
    const found = await this.#reader.read(path, narContentsOf(info), urgency).catch(() => undefined); // xz is missing
    return found !== undefined && 'fileHash' in found && found.fileHash === fileHash && isOf(found, info);
  }
}

/** The pieces of a NAR that are here while it is being fetched. */
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
