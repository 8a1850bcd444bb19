import type { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { PartialBytes } from './bytes.ts';
import type { HeldPieces, Origin } from './held-pieces.ts';
import type { PieceCheck } from './piece-check.ts';
import type { SavedPieces } from './saved-pieces.ts';
import { wrongBytes } from './wrong-bytes.ts';

/** The first two are for a NAR whose SHA-256 is wrong. */
export interface SettleOptions {
  /**
   * Called with the whole file at `path`, if no single piece is to blame. Returns its target if its contents are right
   * nevertheless. Default: they are wrong.
   */
  readonly judge?: ((path: string, fileHash: FileHash) => Promise<string | undefined>) | undefined;
  /**
   * Returns true for a sender whose bytes are kept the first time, if others sent wrong bytes and the pieces are not
   * known. Default: none.
   */
  readonly isTrusted?: ((origin: Origin) => boolean) | undefined;
  /**
   * True to read the pieces that were not checked when they came, and check them against the torrent. Default: such a
   * NAR is not known to match it.
   */
  readonly readsPieces?: boolean;
}

/** The parts of a partial NAR that are checked and moved. */
interface SettledParts {
  readonly fileHash: FileHash;
  readonly saved: SavedPieces;
  readonly held: HeldPieces;
  readonly bytes: PartialBytes;
  readonly check: PieceCheck;
  readonly isInMemory: boolean;
}

/** Checks a complete NAR and moves it to its place, or drops its wrong bytes. */
export class Settlement {
  /** True after wrong bytes, while those of trusted senders are kept. If it is wrong again, all are dropped. */
  isDoubted = false;
  readonly #parts: SettledParts;

  constructor(parts: SettledParts) {
    this.#parts = parts;
  }

  /**
   * Checks the SHA-256, then moves the file to `target`.
   *
   * @param options.mayFit false if an unchecked piece was written: then the pieces are not compared with the torrent
   * @returns true if every piece is known to match the torrent
   * @throws HASH_MISMATCH, with bad bytes dropped
   */
  async settle(
    target: string,
    { mayFit, judge, isTrusted = () => false, readsPieces = false }: SettleOptions & { readonly mayFit: boolean },
  ): Promise<boolean> {
    const { bytes, check, fileHash, saved } = this.#parts;
    const { pieces } = check; // a hash map may come meanwhile
    const found = await bytes.check(fileHash);
    if (found !== fileHash) {
      const isWhole = pieces === undefined || (await check.badPieces()).length === 0;
      const other = isWhole ? await judge?.(await bytes.toFile(), found) : undefined;
      if (other === undefined) throw await this.#blame(found, pieces, isTrusted);
      await bytes.moveTo(other);
      saved.remove();
      return false;
    }
    const fitsTorrent = mayFit && (await check.fitsTorrent({ readsPieces }));
    await bytes.finish(target);
    saved.remove();
    return fitsTorrent;
  }

  /** Drops wrong bytes, and names their senders. */
  async #blame(
    found: FileHash,
    pieces: Uint8Array | undefined,
    isTrusted: (origin: Origin) => boolean,
  ): Promise<NarswarmError<'HASH_MISMATCH'>> {
    const { check, fileHash, held } = this.#parts;
    const bad = await check.badPieces();
    const mapLied = pieces !== undefined && bad.length === 0;
    const senders = held.originsOf(bad);
    if (pieces === undefined) await this.#dropDoubtful(isTrusted);
    else if (mapLied) held.clear();
    else for (const index of bad) held.forget(index);
    const origins = this.isDoubted ? senders.filter((origin) => !isTrusted(origin)) : senders;
    return wrongBytes(fileHash, { found, mapLied, origins });
  }

  /**
   * Keeps the bytes of trusted senders alone, if there are others and it was not wrong before. Otherwise one of the
   * trusted senders has sent wrong bytes, and all are dropped.
   */
  async #dropDoubtful(isTrusted: (origin: Origin) => boolean): Promise<void> {
    const { held } = this.#parts;
    const isFirst = !this.isDoubted;
    held.forgetExcept((origin) => isFirst && isTrusted(origin));
    if (held.missing().length === 0) held.clear();
    this.isDoubted = held.bytes > 0;
    await this.#cut();
  }

  /** Drops the bytes of one sender of an incomplete NAR, and what follows them in the same piece. */
  async dropFrom(liar: Origin): Promise<void> {
    const { held } = this.#parts;
    const before = held.bytes;
    held.forgetExcept((origin) => origin !== liar);
    if (held.bytes < before) await this.#cut();
  }

  /** Cuts the file after the last held byte, and saves where the first gap is. */
  async #cut(): Promise<void> {
    const { bytes, check, held, isInMemory, saved } = this.#parts;
    const { prefixBytes, endBytes } = held;
    if (endBytes > prefixBytes && !isInMemory && check.pieces === undefined) saved.saveFront(prefixBytes);
    await bytes.cut(endBytes);
    if (endBytes === prefixBytes) saved.remove();
  }
}
