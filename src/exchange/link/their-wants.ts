import { MAX_PREFIXES_PER_MESSAGE, MAX_WANTS } from '../../wire/bounds.ts';
import type { FilePrefix, ServingMessage } from '../messages/messages.ts';
import type { Offer } from '../answers/offer.ts';
import type { PieceSet } from '../messages/piece-set.ts';
import type { HostWantsRoom } from './wants-room.ts';

/** The parts of a connection that its member's wants need. */
export interface TheirWantsOptions {
  readonly offer: Offer;
  readonly room: HostWantsRoom;
  /** True if the scope lets this member have anything. */
  readonly mayHave: () => boolean;
  readonly send: (message: ServingMessage) => void;
}

/** The files that one member wants and we lack. It is told when one arrives. */
export class TheirWants {
  readonly #options: TheirWantsOptions;
  readonly #lacked = new Set<FilePrefix>();
  readonly #arrived: FilePrefix[] = [];
  #isClosed = false;

  constructor(options: TheirWantsOptions) {
    this.#options = options;
  }

  has(prefix: FilePrefix): boolean {
    return this.#lacked.has(prefix);
  }

  /** Answers a batch with the files that are here. @returns false if the member wants more than it may */
  want(batch: number, prefixes: readonly FilePrefix[]): boolean {
    const { offer, mayHave, send, room } = this.#options;
    const bitmap = new Uint8Array(Math.ceil(prefixes.length / 8));
    const partial: { prefix: FilePrefix; pieces: PieceSet }[] = [];
    const isMember = mayHave();
    for (const [index, prefix] of prefixes.entries()) {
      const held = isMember ? offer.holds(prefix) : undefined;
      if (held === 'whole') {
        bitmap[index >> 3]! |= 0x80 >> (index & 7);
        continue;
      }
      if (held !== undefined) partial.push({ prefix, pieces: held });
      // Strangers that may have nothing get no news either, and take no room from others.
      if (isMember && !this.#lacked.has(prefix) && room.take()) this.#lacked.add(prefix);
    }
    send({ kind: 'haveMap', batch, bitmap });
    for (const { prefix, pieces } of partial)
      send({ kind: 'pieces', prefix, count: pieces.total, bitmap: pieces.bitmap });
    return this.#lacked.size <= MAX_WANTS;
  }

  unwant(prefixes: readonly FilePrefix[]): void {
    for (const prefix of prefixes) if (this.#lacked.delete(prefix)) this.#options.room.giveBack(1);
  }

  onArrived(prefix: FilePrefix): void {
    if (!this.#lacked.has(prefix) || !this.#options.mayHave()) return;
    this.unwant([prefix]);
    if (this.#arrived.push(prefix) === 1) setImmediate(() => this.#tell());
  }

  onPiece(prefix: FilePrefix, index: number): void {
    if (this.#lacked.has(prefix) && this.#options.mayHave()) this.#options.send({ kind: 'piece', prefix, index });
  }

  close(): void {
    this.#isClosed = true;
    this.#options.room.giveBack(this.#lacked.size);
    this.#lacked.clear();
  }

  #tell(): void {
    const prefixes = this.#arrived.splice(0);
    if (this.#isClosed) return;
    for (let at = 0; at < prefixes.length; at += MAX_PREFIXES_PER_MESSAGE)
      this.#options.send({ kind: 'have', prefixes: prefixes.slice(at, at + MAX_PREFIXES_PER_MESSAGE) });
  }
}
