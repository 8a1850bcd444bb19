import { EventEmitter } from 'node:events';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import type { FilePrefix, Refusal } from './messages.ts';
import type { PieceSet } from './piece-set.ts';

/** Events of an {@link Offer}. */
export interface OfferEvents {
  /** What is held of a file may have changed: whoever wants it asks {@link Offer.holds} again. */
  news: [prefix: FilePrefix];
  /** A piece of a file that is being fetched can be given from now on. */
  piece: [prefix: FilePrefix, index: number];
}

/** A file, or a part of one that is being fetched, that may be given to one peer. Whoever has opened it closes it. */
export interface OfferedFile extends AsyncDisposable {
  readonly prefix: FilePrefix;
  readonly sizeBytes: number;
  /** Fills `target` with what lies from that offset on. Rejects if these bytes are not here (any longer). */
  read(target: Uint8Array, offset: number): Promise<void>;
}

/** The range that a peer asks for, and who it is. */
export interface Asked {
  /** `host:port` of the peer. */
  readonly address: string;
  readonly from: number;
  readonly length: number;
}

/** What this process gives to members. Everything in it may be given: the gate has been asked. */
export interface Offer extends Pick<EventEmitter<OfferEvents>, 'on' | 'off'> {
  /**
   * What is known at once of a file. Of one that has still to be looked at it is undefined, and `news` is emitted later if
   * that file may be given.
   */
  holds(prefix: FilePrefix): 'whole' | PieceSet | undefined;
  /** Opens a file for a peer, and checks that it is still the one that was checked. */
  open(file: FileHash | FilePrefix, asked: Asked): Promise<OfferedFile | Refusal>;
  /** The text of a narinfo that others may have; undefined if there is none. */
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
