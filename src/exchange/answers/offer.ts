import { EventEmitter } from 'node:events';
import type { FileHash, StoreHash } from '../../nix/brands.ts';
import type { FilePrefix, Refusal } from '../messages/messages.ts';
import type { PieceSet } from '../messages/piece-set.ts';

/** Events of an {@link Offer}. */
export interface OfferEvents {
  /** The held part of a file may have changed: for members that want it, ask {@link Offer.holds} again. */
  news: [prefix: FilePrefix];
  /** A piece of a file that is being fetched may be given from now on. */
  piece: [prefix: FilePrefix, index: number];
}

/** A file, or a part of one that is being fetched, that may be given to one peer. The code that opens it closes it. */
export interface OfferedFile extends AsyncDisposable {
  readonly prefix: FilePrefix;
  readonly sizeBytes: number;
  /** Fills `target` with the bytes from an offset on. Rejects if these bytes are not here. */
  read(target: Uint8Array, offset: number): Promise<void>;
}

/** A requested range, and the peer that requests it. */
export interface Asked {
  /** `host:port` of the peer. */
  readonly address: string;
  readonly from: number;
  readonly length: number;
}

/** The NARs and narinfos that members may get. The gate has let all of them out. */
export interface Offer extends Pick<EventEmitter<OfferEvents>, 'on' | 'off'> {
  /**
   * Returns the held part of a file, as far as it is known without waiting. Returns undefined for a file that must be
   * checked first; `news` is emitted later if it may be given.
   */
  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined;
  /** Opens a file for a peer. Checks that it is still the file that was checked. */
  open(file: FileHash | FilePrefix, asked: Asked): Promise<OfferedFile | Refusal>;
  /** Returns the text of a narinfo that others may have. Undefined if there is none. */
  narInfo(hash: StoreHash): Promise<string | undefined>;
}

/** Gives nothing. */
export class EmptyOffer extends EventEmitter<OfferEvents> implements Offer {
  holds(): undefined {
    return undefined;
  }

  open(): Promise<Refusal> {
    return Promise.resolve('absent');
  }

  narInfo(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
}
