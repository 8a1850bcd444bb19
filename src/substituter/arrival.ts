import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PartialNar } from '../store/partial.ts';
import { Readers } from './readers.ts';

/** A NAR on its way into the store, for all clients that wait for it. */
export class Arrival {
  /** A narinfo that names the file. */
  readonly info: NarInfo;
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  readonly readers = new Readers();
  readonly #areStill: () => boolean;
  #partial: PartialNar | undefined;
  #path: string | undefined;
  #failure: Error | undefined;
  #change = Promise.withResolvers<void>();

  /** @param areStill returns true while no source sends a byte of any NAR. Default: never */
  constructor(
    info: NarInfo,
    { fileHash, sizeBytes }: { readonly fileHash: FileHash; readonly sizeBytes: number },
    areStill: () => boolean = () => false,
  ) {
    this.info = info;
    this.#areStill = areStill;
    this.fileHash = fileHash;
    this.sizeBytes = sizeBytes;
  }

  /** The file that it arrives in. Undefined before the first byte. */
  get partial(): PartialNar | undefined {
    return this.#partial;
  }

  /** Its place in the store. Undefined until it is verified. */
  get path(): string | undefined {
    return this.#path;
  }

  /** The reason why it does not arrive. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  get hasEnded(): boolean {
    return this.#path !== undefined || this.#failure !== undefined;
  }

  /** True while bytes of it are missing, and no source sends any: no client should wait for it. */
  get isStill(): boolean {
    return !this.hasEnded && this.#partial?.heldBytes !== this.sizeBytes && this.#areStill();
  }

  /** Lets those who wait look at it again. */
  wake(): void {
    this.#tell();
  }

  /** Notes that it begins to arrive, or begins again. */
  begin(partial: PartialNar): void {
    this.#partial = partial;
    partial.follow(() => this.#tell());
    this.#tell();
  }

  /** Notes that it is verified and in the store. */
  complete(path: string): void {
    if (this.hasEnded) return;
    this.#path = path;
    this.#tell();
  }

  fail(failure: Error): void {
    if (this.hasEnded) return;
    this.#failure = failure;
    this.#tell();
  }

  /** Resolves at the next change. */
  changed(): Promise<void> {
    return this.#change.promise;
  }

  /** Resolves once its first bytes may come, it has ended, or it is still. */
  async begun(): Promise<void> {
    while (!this.hasEnded && !this.isStill && this.#partial === undefined) await this.changed();
  }

  /** Resolves once it is in the store, has failed, or is still. */
  async ended(): Promise<void> {
    while (!this.hasEnded && !this.isStill) await this.changed();
  }

  #tell(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}
