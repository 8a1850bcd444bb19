import type { StorePath } from '../nix/brands.ts';
import { ArrivingDecoder } from '../store/arriving-decoder.ts';
import type { PartialNar } from '../store/partial.ts';
import type { XzDecoders } from '../store/xz-decoders.ts';

/** Processes of xz that wait for bytes. Each takes 10 MB of memory for a usual NAR. */
const MAX_OPEN = 8;

/** A NAR that arrives. */
export interface ArrivingNar {
  readonly storePath: StorePath;
  readonly partial: PartialNar;
  /** The decoded file. */
  readonly to: string;
  /** Size of the decoded file. */
  readonly narSize: number;
  /** Its place in the import. */
  readonly place: number;
}

/**
 * Decodes NARs while they arrive, a turn at a time, with processors that nothing else needs. Those that are imported
 * first have the first turns.
 */
export class ArrivingDecoders implements AsyncDisposable {
  readonly #decoders: XzDecoders;
  /** Part of the room that they take. */
  readonly #part: number;
  readonly #onFree: () => void;
  readonly #ending = new Set<Promise<void>>();
  /** In the order of their places. */
  #arriving: { readonly nar: ArrivingNar; readonly decoder: ArrivingDecoder }[] = [];

  /** @param onFree called when a turn has ended */
  constructor(decoders: XzDecoders, part: number, onFree: () => void) {
    this.#decoders = decoders;
    this.#part = part;
    this.#onFree = onFree;
  }

  /** Decodes a NAR that has begun to arrive. */
  add(nar: ArrivingNar): void {
    this.#drop(({ storePath }) => storePath === nar.storePath);
    const decoder = new ArrivingDecoder(nar.partial, nar.to, nar.narSize);
    nar.partial.follow(() => this.run());
    this.#arriving = [...this.#arriving, { nar, decoder }].toSorted((a, b) => a.nar.place - b.nar.place);
  }

  /** Gives turns to those that have work. */
  run(): void {
    for (const { nar, decoder } of this.#arriving) {
      if (!this.#decoders.isFree) return;
      if (!decoder.hasWork || !(decoder.hasBegun || this.#mayBegin(nar))) continue;
      if (!decoder.hasBegun) this.#decoders.hold(nar.narSize);
      void this.#decoders.occupy(() => decoder.takeTurn()).then(this.#onFree);
    }
  }

  /** Returns true if the decoder of a path has begun. Its room is taken then. */
  has(path: StorePath): boolean {
    return this.#arriving.some(({ nar, decoder }) => nar.storePath === path && decoder.hasBegun);
  }

  /** Hands over the decoder of a complete NAR, with its room. Undefined if it has not begun. */
  take(path: StorePath): ArrivingDecoder | undefined {
    const found = this.#arriving.find(({ nar }) => nar.storePath === path);
    this.#arriving = this.#arriving.filter((one) => one !== found);
    return found?.decoder.hasBegun === true ? found.decoder : undefined;
  }

  /** Ends all decoders but those of these paths. */
  async endOthers(arrived: ReadonlySet<StorePath>): Promise<void> {
    this.#drop(({ storePath }) => !arrived.has(storePath));
    await Promise.all(this.#ending);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.endOthers(new Set());
  }

  #mayBegin({ narSize }: ArrivingNar): boolean {
    const open = this.#arriving.filter(({ decoder }) => decoder.hasBegun).length;
    return open < MAX_OPEN && this.#decoders.hasRoom(narSize, this.#part);
  }

  #drop(isUnwanted: (nar: ArrivingNar) => boolean): void {
    for (const { nar, decoder } of this.#arriving.filter((one) => isUnwanted(one.nar))) {
      if (decoder.hasBegun) this.#decoders.release(nar.narSize);
      const ending = decoder[Symbol.asyncDispose]().finally(() => this.#ending.delete(ending));
      this.#ending.add(ending);
    }
    this.#arriving = this.#arriving.filter((one) => !isUnwanted(one.nar));
  }
}
