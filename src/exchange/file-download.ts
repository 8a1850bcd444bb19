import { giveBack } from '../bytes/lent-buffers.ts';
import { noteGoodBytes, type PeerRecord } from '../discovery/peer-table.ts';
import type { FileHash } from '../nix/brands.ts';
import { PIECE_HASH_BYTES, pieceLengthOf } from '../torrent/canonical.ts';
import { Arrival } from './arrival.ts';
import { Beginnings, isWorthKeeping } from './beginnings.ts';
import type { DownloadSource } from './download-source.ts';
import type { FileContext } from './file-context.ts';
import { Proofs } from './proofs.ts';
import type { Arrived } from './range-requests.ts';
import { RangesAhead } from './ranges-ahead.ts';
import type { DownloadFile, Sink } from './sink.ts';
import type { Asked, PickFile } from './unit.ts';

/** Seconds within which a file must arrive for the SHA-1 checks of its pieces to be left out. */
const SOON_S = 2;

/** Reads a range of a file. */
export type ReadRange = (offset: number, lengthBytes: number) => Promise<Uint8Array>;

/** One file that comes from members: checks the ranges that arrive, and writes them into its {@link Sink}. */
export class FileDownload implements PickFile {
  readonly file: FileHash;
  readonly sizeBytes: number;
  readonly unitBytes: number;
  readonly isCheckable: boolean;
  readonly isDoubted: boolean;
  readonly proofs: Proofs<DownloadSource>;
  readonly arrival: Arrival;
  readonly #pieces: Uint8Array | undefined;
  readonly #context: FileContext;
  #opening: Promise<Sink> | undefined;
  /** The sink. Undefined until it is open. */
  #sink: Sink | undefined;
  readonly #ahead: RangesAhead;
  /** Running writes and checks. */
  readonly #work = new Set<Promise<void>>();
  readonly #beginnings: Beginnings;
  /** Members that gave parts while they did not have all of a file that can only be checked as a whole. */
  readonly #unfinished: Set<DownloadSource>;
  /** Number of pieces that are being written. */
  #unwritten = 0;
  /** True from the start to a pause. */
  #isRequested = false;
  /** Members whose bytes are to be dropped, and the work of dropping them. */
  readonly #liars = new Set<PeerRecord>();
  #renouncing: Promise<void> | undefined;
  #hasFailed = false;

  /**
   * @param sink the sink, if a part of the file is here
   * @param before the earlier download of the same file, if there was one
   */
  constructor(wanted: DownloadFile, context: FileContext, sink: Sink | undefined, before: FileDownload | undefined) {
    const { file, sizeBytes, pieces, isDoubted = false } = wanted;
    this.file = file;
    this.sizeBytes = sizeBytes;
    this.unitBytes = pieceLengthOf(sizeBytes);
    this.isCheckable = pieces !== undefined || sizeBytes <= this.unitBytes;
    this.isDoubted = isDoubted;
    this.#pieces = pieces;
    this.#context = context;
    this.#ahead = new RangesAhead(context.memory);
    this.#beginnings = new Beginnings(context.picker);
    this.arrival = before?.arrival ?? new Arrival();
    this.#opening = sink === undefined ? undefined : Promise.resolve(sink);
    this.#sink = sink;
    // The senders of the bytes in the same sink are known.
    const goesOn = before !== undefined && sink !== undefined && before.#sink === sink;
    this.proofs = goesOn ? before.proofs : (before?.proofs.forOtherBytes() ?? new Proofs<DownloadSource>(file));
    this.#unfinished = new Set(goesOn ? before.#unfinished : []);
  }

  /** True while the bytes of a liar are dropped. Then members are asked for the file again. */
  get isRenouncing(): boolean {
    return this.#renouncing !== undefined && this.#isRequested;
  }

  get only(): DownloadSource | undefined {
    return this.isDoubted ? undefined : this.proofs.only;
  }

  /** First missing byte. */
  get nextByte(): number {
    return this.#sink?.missing()[0]?.from ?? 0;
  }

  /** Has its missing ranges requested. */
  start(): void {
    this.#isRequested = true;
    this.proofs.noteProgress();
    this.arrival.start();
    this.#context.picker.add(this, this.#sink?.missing() ?? [{ from: 0, to: this.sizeBytes }]);
  }

  /** Stops its requests. */
  stop(): void {
    this.#isRequested = false;
    this.#stopRequests();
  }

  /** Stops its requests. Resolves once no part of it is being written. */
  async pause(): Promise<void> {
    this.stop();
    this.arrival.stop();
    await new Promise(setImmediate); // beginnings are kept first
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    this.#ahead.clear();
  }

  /**
   * Takes the bytes of a request that has ended. Resolves when they are no longer needed in memory.
   *
   * @param isWhole false if only the beginning of the range has arrived
   */
  receive(arrived: Arrived, isWhole: boolean): Promise<void> {
    if (isWhole) this.arrival.onRange(arrived.source.member.host, arrived.bytes.length);
    const work = (isWhole ? this.#take(arrived) : this.#takeBeginning(arrived))
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#work.delete(work));
    this.#work.add(work);
    return work;
  }

  /**
   * Records that the SHA-256 of the complete file is right, and finds the members that sent other bytes of it before.
   *
   * @param read reads the right bytes. Undefined: they are of another file
   */
  async confirm(read: ReadRange | undefined): Promise<void> {
    const { onLie, options } = this.#context;
    for (const { origin, lengthBytes } of this.proofs.right) this.#onVerified(origin, lengthBytes);
    if (read === undefined) return;
    for (const [index, { origin, lengthBytes, sha1 }] of this.proofs.doubts) {
      if (origin.isMisleading || origin.member.peer.banned !== undefined || sha1 === '') continue;
      const to = Math.min(this.sizeBytes, (index + 1) * this.unitBytes);
      if ((await options.hashThread.sha1(await read(to - lengthBytes, lengthBytes))) !== sha1) onLie(origin, this.file);
    }
  }

  /**
   * Records that the SHA-256 of the complete file is wrong.
   *
   * @param isMixed true if some of it is not from members
   * @returns true if a liar was found
   */
  doubt(isMixed: boolean): boolean {
    const liar = this.proofs.doubt(isMixed || this.#unfinished.size > 0, this.#context.sources.values());
    if (liar !== undefined) this.#context.onLie(liar, this.file);
    for (const source of this.#unfinished) source.mislead();
    this.#unfinished.clear();
    return liar !== undefined;
  }

  /**
   * Drops what a liar has sent, if the file can only be checked as a whole: with it, nothing that others send would be of
   * use. Has it requested from others.
   */
  renounce({ member: { peer } }: DownloadSource): void {
    if (!this.#isRequested || this.isCheckable) return;
    if (!this.proofs.isFrom(peer) && !this.#ahead.isFrom(peer)) return;
    this.#liars.add(peer);
    if (this.#renouncing !== undefined) return;
    this.#stopRequests();
    const work = this.#dropLies()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#work.delete(work);
        this.#renouncing = undefined;
      });
    this.#work.add((this.#renouncing = work));
  }

  async #dropLies(): Promise<void> {
    await new Promise(setImmediate); // stopped requests have ended
    const others = (): Promise<void>[] => [...this.#work].filter((work) => work !== this.#renouncing);
    for (let running = others(); running.length > 0; running = others()) await Promise.allSettled(running);
    this.#ahead.clear();
    const sink = await this.#opening;
    for (const peer of this.#liars) {
      await sink?.dropFrom(peer.address);
      this.proofs.forget(peer);
    }
    this.#liars.clear();
    if (!this.#isRequested) return; // another lane writes it from now on
    this.start();
    this.#onWritten();
    this.#context.onFree();
  }

  /** Checks a range as far as possible, and writes it. */
  async #take(arrived: Arrived): Promise<void> {
    if (!this.#context.picker.isMissing(arrived.asked.unit)) giveBack(arrived.bytes); // another member was faster
    else if (this.#pieces === undefined) await this.#takeUnproven(arrived);
    else await this.#takePiece(arrived, this.#pieces);
  }

  /** Takes a range that can only be checked with the whole file. */
  async #takeUnproven(arrived: Arrived): Promise<void> {
    const { source, asked, bytes } = arrived;
    const isOne = asked.lengthBytes === this.sizeBytes;
    const digest = isOne ? '' : await this.#context.options.hashThread.sha1(bytes);
    if (!(await this.#settle(asked))) return;
    this.#noteUnfinished(source);
    if (isOne) {
      await (await this.#open()).putPiece(0, bytes, source.member.peer.address);
      this.#noteProof(arrived, digest);
    } else {
      this.#ahead.add({ ...arrived, sha1: digest });
      await this.#writeInOrder();
    }
    this.#onWritten();
  }

  /** Takes a piece, or the rest of one whose beginning is here. */
  async #takePiece(arrived: Arrived, pieces: Uint8Array): Promise<void> {
    const { source, asked, bytes } = arrived;
    const { unit } = asked;
    const { picker, onLie, options } = this.#context;
    const start = unit.index * this.unitBytes;
    const before = asked.from > start ? await (await this.#open()).read(start, asked.from - start) : undefined;
    const piece = before === undefined ? bytes : Buffer.concat([before, bytes]);
    const isChecked = before !== undefined || !this.#isSoonWhole(source);
    if (isChecked && (await options.hashThread.sha1(piece)) !== sha1Of(pieces, unit.index)) {
      giveBack(bytes);
      if (before === undefined) onLie(source, this.file);
      unit.from = start; // either of two senders may have lied: the next one sends all of it
      picker.end(asked, false);
      return;
    }
    if (isChecked) this.#onVerified(source, bytes.length);
    if (!(await this.#settle(asked))) return;
    if (!isChecked) this.#noteProof(arrived, '');
    this.#unwritten++;
    await (await this.#open()).putPiece(unit.index, piece, source.member.peer.address, isChecked);
    this.#unwritten--;
    if (piece !== bytes || this.sizeBytes > this.unitBytes) giveBack(bytes); // the sink takes over a whole file
    if (isChecked) options.onPiece(this.file, unit.index);
    this.#onWritten();
  }

  /**
   * Returns true if no member needs a piece before the whole file is checked: all comes from this member, in a moment,
   * and no other wants it. The SHA-256 of the file then shows a wrong piece, and pieces are checked from then on.
   */
  #isSoonWhole(source: DownloadSource): boolean {
    const { options, sources } = this.#context;
    if (options.leavesUnchecked !== true || this.proofs.misfits) return false;
    if (this.sizeBytes <= this.unitBytes) return true;
    if (this.sizeBytes > (source.rate ?? 0) * SOON_S) return false;
    for (const other of sources.values())
      if (other !== source && (other.wants(this.file) || other.has(this.file) !== undefined)) return false;
    return true;
  }

  /** Records that a unit is here. @returns false if it was already here, or is no longer wanted */
  async #settle(asked: Asked): Promise<boolean> {
    const { picker, requests } = this.#context;
    const beginning = (): Promise<void> | undefined => this.#beginnings.writeOf(asked.unit);
    while (beginning() !== undefined) await beginning(); // it would overwrite checked bytes
    if (!picker.isMissing(asked.unit)) return false;
    this.proofs.noteProgress();
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
    const { picker, onFree } = this.#context;
    const mayKeep = isWorthKeeping(asked);
    if (mayKeep && (await this.#beginnings.keep(arrived, await this.#open()))) this.#noteBegun(source);
    giveBack(bytes);
    picker.end(asked, false);
    if (mayKeep) onFree();
  }

  async #open(): Promise<Sink> {
    return (this.#sink = await (this.#opening ??= this.#context.options.open(this.file)));
  }

  #onVerified(source: DownloadSource, bytes: number): void {
    noteGoodBytes(source.member.peer, bytes);
    source.prove();
    this.#context.options.onVerified(bytes);
  }

  #noteProof({ source, asked: { unit, lengthBytes } }: Arrived, digest: string): void {
    this.proofs.note(unit.index, { origin: source, lengthBytes, sha1: digest });
  }

  #noteBegun(source: DownloadSource): void {
    this.proofs.noteBegun(source);
    this.#noteUnfinished(source);
  }

  /** Records that a member gives parts that it has not checked, since it does not have the whole file. */
  #noteUnfinished(source: DownloadSource): void {
    if (this.#pieces === undefined && source.has(this.file) !== 'whole') this.#unfinished.add(source);
  }

  #onWritten(): void {
    const { picker, options } = this.#context;
    if (!picker.isComplete(this.file) || this.#ahead.size > 0 || this.#unwritten > 0) return;
    this.#isRequested = false;
    picker.remove(this.file);
    options.onComplete(this.file);
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.stop();
    this.#context.options.onFailure(this.file, error);
  }

  #stopRequests(): void {
    const { picker, requests } = this.#context;
    for (const asked of picker.remove(this.file)) requests.stop(asked);
  }
}

/** Returns the SHA-1 of a piece, in hex. */
function sha1Of(pieces: Uint8Array, index: number): string {
  const at = index * PIECE_HASH_BYTES;
  return Buffer.from(pieces.subarray(at, at + PIECE_HASH_BYTES)).toString('hex');
}
