import { giveBack } from '../../bytes/lent-buffers.ts';
import { PIECE_HASH_BYTES } from '../../torrent/canonical.ts';
import { Beginnings, isWorthKeeping } from './beginnings.ts';
import type { DownloadSource } from './download-source.ts';
import type { FileContext } from './file-context.ts';
import type { Proofs } from './proofs.ts';
import type { Arrived } from './range-requests.ts';
import { RangesAhead } from './ranges-ahead.ts';
import type { Sink } from './sink.ts';
import type { Asked, PickFile } from './unit.ts';

/** Seconds within which a file must arrive for the SHA-1 checks of its pieces to be left out. */
const SOON_S = 2;

interface IncomingRangesOptions {
  readonly file: PickFile;
  /** SHA-1 of all pieces, one after another. Undefined if the file can only be checked as a whole. */
  readonly pieces: Uint8Array | undefined;
  readonly context: FileContext;
  readonly proofs: Proofs<DownloadSource>;
  /** Undefined: it is opened before the first byte is written. */
  readonly sink: Sink | undefined;
  readonly onWritten: () => void;
  /** Called when bytes were written whose sender was banned meanwhile. */
  readonly onLateLie: (source: DownloadSource) => void;
  readonly onFailure: (error: unknown) => void;
}

/** The ranges of one file that arrive from members: checks them, and writes them into its {@link Sink}. */
export class IncomingRanges {
  readonly #options: IncomingRangesOptions;
  readonly #ahead: RangesAhead;
  readonly #beginnings: Beginnings;
  /** Running checks and writes. */
  readonly #work = new Set<Promise<void>>();
  #opening: Promise<Sink> | undefined;
  #sink: Sink | undefined;
  /** Number of pieces that are being written. */
  #unwritten = 0;

  constructor(options: IncomingRangesOptions) {
    const { context, sink } = options;
    this.#options = options;
    this.#ahead = new RangesAhead(context.memory);
    this.#beginnings = new Beginnings(context.picker);
    this.#sink = sink;
    this.#opening = sink === undefined ? undefined : Promise.resolve(sink);
  }

  /** The sink. Undefined until it is open. */
  get sink(): Sink | undefined {
    return this.#sink;
  }

  /** False while a checked range waits for an earlier one, or is being written. */
  get isWritten(): boolean {
    return this.#ahead.size === 0 && this.#unwritten === 0;
  }

  /** Returns true if a peer has sent some of the current attempt. */
  isFrom(peer: object): boolean {
    return this.#options.proofs.isFrom(peer) || this.#ahead.isFrom(peer);
  }

  /**
   * Takes the bytes of a request that has ended. Resolves when they are no longer needed in memory.
   *
   * @param isWhole false if only the beginning of the range has arrived
   */
  take(arrived: Arrived, isWhole: boolean): Promise<void> {
    const work = (isWhole ? this.#take(arrived) : this.#takeBeginning(arrived))
      .catch((error: unknown) => this.#options.onFailure(error))
      .finally(() => this.#work.delete(work));
    this.#work.add(work);
    return work;
  }

  /** Resolves once nothing is being written. Drops the ranges that wait for earlier ones. Stop all requests before. */
  async end(): Promise<void> {
    await new Promise(setImmediate); // bytes of stopped requests arrive first
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    this.#ahead.clear();
  }

  /** Drops the written bytes of a peer. */
  async dropFrom(address: string): Promise<void> {
    await (await this.#opening)?.dropFrom(address);
  }

  /** Checks a range as far as possible, and writes it. */
  async #take(arrived: Arrived): Promise<void> {
    const { context, pieces } = this.#options;
    if (!context.picker.isMissing(arrived.asked.unit)) giveBack(arrived.bytes); // another member was faster
    else if (pieces === undefined) await this.#takeUnproven(arrived);
    else await this.#takePiece(arrived, pieces);
  }

  /** Takes a range that can only be checked with the whole file. */
  async #takeUnproven(arrived: Arrived): Promise<void> {
    const { file, context, onWritten } = this.#options;
    const { source, asked, bytes } = arrived;
    const isOne = asked.lengthBytes === file.sizeBytes;
    const digest = isOne ? '' : await context.options.hashThread.sha1(bytes);
    if (source.isBanned) {
      giveBack(bytes);
      context.picker.end(asked, false);
      return;
    }
    if (!(await this.#settle(asked))) return;
    this.#noteUnfinished(source);
    if (isOne) {
      await (await this.#open()).putPiece(0, bytes, source.member.peer.address);
      this.#noteProof(arrived, digest);
    } else {
      this.#ahead.add({ ...arrived, sha1: digest });
      await this.#writeInOrder();
    }
    onWritten();
  }

  /** Takes a piece, or the rest of one whose beginning is here. */
  async #takePiece(arrived: Arrived, pieces: Uint8Array): Promise<void> {
    const { file, context, onWritten } = this.#options;
    const { source, asked, bytes } = arrived;
    const { unit } = asked;
    const { picker, onLie, options } = context;
    const start = unit.index * file.unitBytes;
    const before = asked.from > start ? await (await this.#open()).read(start, asked.from - start) : undefined;
    const piece = before === undefined ? bytes : Buffer.concat([before, bytes]);
    const isChecked = before !== undefined || !this.#isSoonWhole(source);
    if (isChecked && (await options.hashThread.sha1(piece)) !== sha1Of(pieces, unit.index)) {
      giveBack(bytes);
      if (before === undefined) onLie(source, file.file);
      unit.from = start; // either of two senders may have lied: the next one sends all of it
      picker.end(asked, false);
      return;
    }
    if (isChecked) {
      source.prove(bytes.length);
      options.onVerified(bytes.length);
    }
    if (!(await this.#settle(asked))) return;
    if (!isChecked) this.#noteProof(arrived, '');
    this.#unwritten++;
    await (await this.#open()).putPiece(unit.index, piece, source.member.peer.address, isChecked);
    this.#unwritten--;
    if (piece !== bytes || file.sizeBytes > file.unitBytes) giveBack(bytes); // the sink takes over a whole file
    if (isChecked) options.onPiece(file.file, unit.index);
    onWritten();
  }

  /**
   * Returns true if no member needs a piece before the whole file is checked: all comes from this member, in a moment,
   * and no other wants it. The SHA-256 of the file then shows a wrong piece, and pieces are checked from then on.
   */
  #isSoonWhole(source: DownloadSource): boolean {
    const { file, proofs, context } = this.#options;
    if (context.options.leavesUnchecked !== true || proofs.misfits || source.isBanned) return false;
    if (file.sizeBytes <= file.unitBytes) return true;
    if (file.sizeBytes > (source.rate ?? 0) * SOON_S) return false;
    for (const other of context.sources.values())
      if (other !== source && (other.wants(file.file) || other.has(file.file) !== undefined)) return false;
    return true;
  }

  /** Records that a unit is here. @returns false if it was already here, or is no longer wanted */
  async #settle(asked: Asked): Promise<boolean> {
    const { picker, requests } = this.#options.context;
    const beginning = (): Promise<void> | undefined => this.#beginnings.writeOf(asked.unit);
    while (beginning() !== undefined) await beginning(); // it would overwrite checked bytes
    if (!picker.isMissing(asked.unit)) return false;
    this.#options.proofs.noteProgress();
    for (const other of picker.end(asked, true)) requests.stop(other);
    return true;
  }

  /** Writes the ranges that no longer have to wait for earlier ones. */
  async #writeInOrder(): Promise<void> {
    const sink = await this.#open();
    for (;;) {
      const from = sink.missing()[0]?.from ?? Infinity;
      const next = this.#ahead.take(from);
      if (next === undefined) return;
      await sink.write(from, [next.bytes.subarray(from - next.asked.from)], next.source.member.peer.address);
      this.#noteProof(next, next.sha1);
      giveBack(next.bytes);
    }
  }

  /** Takes the beginning of a range that its member does not complete. */
  async #takeBeginning(arrived: Arrived): Promise<void> {
    const { source, asked, bytes } = arrived;
    const { picker, onFree } = this.#options.context;
    const mayKeep = !source.isBanned && isWorthKeeping(asked);
    if (mayKeep && (await this.#beginnings.keep(arrived, await this.#open()))) this.#noteBegun(source);
    giveBack(bytes);
    picker.end(asked, false);
    if (mayKeep) onFree();
  }

  async #open(): Promise<Sink> {
    const { file, context } = this.#options;
    return (this.#sink = await (this.#opening ??= context.options.open(file.file)));
  }

  #noteProof({ source, asked: { unit, lengthBytes } }: Arrived, digest: string): void {
    this.#options.proofs.note(unit.index, { origin: source, lengthBytes, sha1: digest });
    if (source.isBanned) this.#options.onLateLie(source);
  }

  #noteBegun(source: DownloadSource): void {
    this.#options.proofs.noteBegun(source);
    this.#noteUnfinished(source);
  }

  #noteUnfinished(source: DownloadSource): void {
    const { file, pieces, proofs } = this.#options;
    if (pieces === undefined && source.has(file.file) !== 'whole') proofs.noteUnfinished(source);
  }
}

/** Returns the SHA-1 of a piece, in hex. */
function sha1Of(pieces: Uint8Array, index: number): string {
  const at = index * PIECE_HASH_BYTES;
  return Buffer.from(pieces.subarray(at, at + PIECE_HASH_BYTES)).toString('hex');
}
