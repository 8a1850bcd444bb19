import type { PeerRecord } from '../../discovery/peer-table.ts';
import type { FileHash } from '../../nix/brands.ts';
import { pieceLengthOf } from '../../torrent/canonical.ts';
import { Arrival } from './arrival.ts';
import type { DownloadSource } from './download-source.ts';
import type { FileContext } from './file-context.ts';
import { IncomingRanges } from './incoming-ranges.ts';
import { Proofs } from './proofs.ts';
import type { Arrived } from './range-requests.ts';
import type { DownloadFile, Sink } from './sink.ts';
import type { PickFile } from './unit.ts';

/** Reads a range of a file. */
export type ReadRange = (offset: number, lengthBytes: number) => Promise<Uint8Array>;

/** One file that comes from members: when it is requested, and which members lied about it. */
export class FileDownload implements PickFile {
  readonly file: FileHash;
  readonly sizeBytes: number;
  readonly unitBytes: number;
  readonly isCheckable: boolean;
  readonly isDoubted: boolean;
  readonly proofs: Proofs<DownloadSource>;
  readonly arrival: Arrival;
  readonly #context: FileContext;
  readonly #ranges: IncomingRanges;
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
    this.arrival = before?.arrival ?? new Arrival();
    // The senders of the bytes in the same sink are known.
    const goesOn = before !== undefined && sink !== undefined && before.#ranges.sink === sink;
    this.proofs = goesOn ? before.proofs : (before?.proofs.forOtherBytes() ?? new Proofs<DownloadSource>(file));
    this.#context = context;
    this.#ranges = new IncomingRanges({
      file: this,
      pieces,
      context,
      proofs: this.proofs,
      sink,
      onWritten: () => this.#onWritten(),
      onLateLie: (source) => this.renounce(source),
      onFailure: (error) => this.#fail(error),
    });
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
    return this.#ranges.sink?.missing()[0]?.from ?? 0;
  }

  /** Has its missing ranges requested. */
  start(): void {
    this.#isRequested = true;
    this.proofs.noteProgress();
    this.arrival.start();
    this.#context.picker.add(this, this.#ranges.sink?.missing() ?? [{ from: 0, to: this.sizeBytes }]);
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
    await this.#renouncing;
    await this.#ranges.end();
  }

  /**
   * Takes the bytes of a request that has ended. Resolves when they are no longer needed in memory.
   *
   * @param isWhole false if only the beginning of the range has arrived
   */
  receive(arrived: Arrived, isWhole: boolean): Promise<void> {
    if (isWhole) this.arrival.onRange(arrived.source.member.host, arrived.bytes.length);
    return this.#ranges.take(arrived, isWhole);
  }

  /**
   * Records that the SHA-256 of the complete file is right, and finds the members that sent other bytes of it before.
   *
   * @param read reads the right bytes. Undefined: they are of another file
   */
  async confirm(read: ReadRange | undefined): Promise<void> {
    const { onLie, options } = this.#context;
    for (const { origin, lengthBytes } of this.proofs.right) {
      origin.prove(lengthBytes);
      options.onVerified(lengthBytes);
    }
    if (read === undefined) return;
    for (const [index, { origin, lengthBytes, sha1 }] of this.proofs.doubts) {
      if (origin.isMisleading || origin.isBanned || sha1 === '') continue;
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
    const { unfinished } = this.proofs;
    const liar = this.proofs.doubt(isMixed, this.#context.sources.values());
    if (liar !== undefined) this.#context.onLie(liar, this.file);
    for (const source of unfinished) source.mislead();
    return liar !== undefined;
  }

  /**
   * Drops what a liar has sent, if the file can only be checked as a whole: with it, nothing that others send would be of
   * use. Has it requested from others.
   */
  renounce({ member: { peer } }: DownloadSource): void {
    if (!this.#isRequested || this.isCheckable || !this.#ranges.isFrom(peer)) return;
    this.#liars.add(peer);
    if (this.#renouncing !== undefined) return;
    this.#stopRequests();
    this.#renouncing = this.#dropLies()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => (this.#renouncing = undefined));
  }

  async #dropLies(): Promise<void> {
    await this.#ranges.end();
    for (const peer of this.#liars) {
      await this.#ranges.dropFrom(peer.address);
      this.proofs.forget(peer);
    }
    this.#liars.clear();
    if (!this.#isRequested) return; // another lane writes it from now on
    this.start();
    this.#onWritten();
    this.#context.onFree();
  }

  #onWritten(): void {
    const { picker, options } = this.#context;
    if (!picker.isComplete(this.file) || !this.#ranges.isWritten) return;
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
