import type { InfoHash } from '../nix/brands.ts';
import { isAddressedBesideNarHash } from '../nix/content-address.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { BackgroundReader } from './background-reader.ts';
import { CHECK_PATIENCE_MS } from './gate.ts';
import type { SharedNars } from './shared-nars.ts';
import { narContentsOf } from '../store/hash-nar.ts';
import { withinMs } from '../within.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Seed } from '../swarm/swarm.ts';

/** A NAR of the file store that the catalogue may not list yet. */
export interface HeldNar {
  readonly torrent: NarTorrent;
  /** Absolute path of the file, which has the torrent's FileHash. */
  readonly path: string;
  /** The narinfo that it was fetched for, with a signature that was checked. */
  readonly info: NarInfo;
}

interface Held extends HeldNar {
  /** Whether it may be given to others: asked when the first peer wants it, as the next. */
  isShared: Promise<boolean> | undefined;
  /** Whether its contents are the signed ones. */
  isSound: Promise<boolean> | undefined;
}

/**
 * The NARs that a running fetch has in the store, for the members of the cohort that want them at once. A FileHash is not
 * signed: what a peer asks for is decompressed first, with the processor time that the fetch leaves, unless Nix has
 * imported it by then. Nothing is decompressed that nobody asks for.
 */
export class HeldNars implements AsyncDisposable {
  readonly #shared: Pick<SharedNars, 'includes'>;
  readonly #held = new Map<InfoHash, Held>();
  readonly #reader = new BackgroundReader();
  /** Paths whose contents somebody else has checked. */
  readonly #sound = new Set<string>();

  constructor(shared: Pick<SharedNars, 'includes'>) {
    this.#shared = shared;
  }

  /** Takes in a NAR whose SHA-256 was checked. */
  add(nar: HeldNar): void {
    const { info } = nar;
    // Without compression FileHash is NarHash.
    const isKnown = info.compression === 'none' && isSameHash(nar) && !isAddressedBesideNarHash(info);
    this.#held.set(nar.torrent.infoHash, {
      ...nar,
      isShared: undefined,
      isSound: isKnown ? Promise.resolve(true) : undefined,
    });
  }

  /** Notes that the contents of a path's NAR were checked by NarHash: Nix has imported it, or somebody has looked into it. */
  noteSound(path: string): void {
    this.#sound.add(path);
  }

  /** Of the torrents of all NARs that are held. */
  infoHashes(): IterableIterator<InfoHash> {
    return this.#held.keys();
  }

  /** The NAR behind an infohash, or undefined if it may not, or not yet, be served. */
  async seed(infoHash: InfoHash): Promise<Seed | undefined> {
    const held = this.#held.get(infoHash);
    if (held === undefined) return undefined;
    held.isShared ??= this.#shared.includes(held.info);
    if (!(await held.isShared)) return undefined;
    if (!this.#sound.has(held.info.storePath)) {
      held.isSound ??= this.#lookInto(held);
      if ((await withinMs(CHECK_PATIENCE_MS, held.isSound)) !== true) return undefined;
    }
    return { torrent: held.torrent, files: [{ path: held.path, sizeBytes: held.torrent.sizeBytes }] };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#reader.close();
  }

  async #lookInto({ torrent, path, info }: HeldNar): Promise<boolean> {
    const found = await this.#reader.read(path, narContentsOf(info), 'now').catch(() => undefined); // without xz nothing is served
    return found !== undefined && 'fileHash' in found && found.fileHash === torrent.fileHash && isOf(found, info);
  }
}

function isOf({ narHash }: { readonly narHash?: string | undefined }, info: NarInfo): boolean {
  return narHash === info.narHash;
}

function isSameHash({ torrent, info }: HeldNar): boolean {
  const fileHash: string = torrent.fileHash;
  return fileHash === info.narHash;
}
