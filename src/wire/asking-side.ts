import { AskedBlocks, type AskedBlock } from './asked-blocks.ts';
import { MAX_REFUSALS } from './bounds.ts';
import type { Ends } from './ends.ts';
import { message, pieceMessage } from './messages.ts';
import { KIND } from './protocol.ts';

/** Why a peer is set aside: it sends nothing, or it may have sent wrong bytes. */
export type AsideReason = 'silent' | 'suspect';

/** Whoever downloads over a connection: knows what is here already, and who has sent what. */
export interface Downloader {
  /**
   * Called before a request leaves.
   *
   * @returns the block, if it is here already; else the number of the try at its piece
   */
  request(index: number, offset: number, length: number): Uint8Array | number;
  /** Called when the peer is asked. */
  asked(block: AskedBlock): void;
  /** Called with a block that was asked for, before the swarm sees it. It must not change. */
  received(block: AskedBlock, bytes: Uint8Array): void;
  /** Called when a block will not come: it was turned down or taken back, or the connection has ended. */
  lost(block: AskedBlock): void;
}

/**
 * What is asked of a peer. The swarm decides which blocks; what it has not asked for never reaches it. A peer that is
 * set aside looks to the swarm like one that chokes, so that its blocks are asked of the others.
 */
export class AskingSide {
  /** Undefined where nothing is downloaded. */
  downloader: Downloader | undefined;
  readonly #ends: Ends;
  readonly #asked = new AskedBlocks();
  /** True while the peer itself chokes us. */
  #isChoked = true;
  readonly #reasons = new Set<AsideReason>();
  #refusals = 0;
  /** Since when it owed what was taken back from it when it was set aside. */
  #owedSinceMs: number | undefined;

  constructor(ends: Ends) {
    this.#ends = ends;
  }

  /** True while the swarm asks it for blocks. */
  get isAsked(): boolean {
    return !this.#isChoked && !this.isAside;
  }

  get isAside(): boolean {
    return this.#reasons.size > 0;
  }

  /**
   * Since when it could have sent what it owes, or owed when it was set aside as silent; milliseconds of
   * `performance.now()`, undefined if it owes nothing.
   */
  get owesSinceMs(): number | undefined {
    return this.#asked.size > 0 ? this.#asked.silentSinceMs : this.#owedSinceMs;
  }

  /** Bytes that were asked for and are not here. */
  get inFlightBytes(): number {
    return this.#asked.bytes;
  }

  /** The swarm asks for a block. @returns whether the peer is to hear it */
  onRequest(index: number, offset: number, length: number): boolean {
    const known = this.downloader?.request(index, offset, length) ?? 0;
    if (typeof known !== 'number') {
      this.#ends.toSwarm(pieceMessage(index, offset, known));
      return false;
    }
    if (this.isAside) {
      // It left before the swarm heard the choke. Without the fast extension that turns it down.
      if (this.#ends.hasFast) this.#ends.toSwarm(message(KIND.REJECT, index, offset, length));
      return false;
    }
    const block = { index, offset, length, attempt: known };
    this.#asked.add(block);
    this.downloader?.asked(block);
    return true;
  }

  /** A block comes. @returns whether the swarm is to see it */
  onBlock(index: number, offset: number, bytes: Uint8Array): boolean {
    const block = this.#asked.onBlock(index, offset, bytes.length);
    if (block === undefined) {
      if (this.#asked.isFlooded) this.#ends.refuse();
      this.takeBack('silent'); // it sends what it was asked for before
      return false;
    }
    this.#refusals = 0;
    this.downloader?.received(block, bytes);
    return true;
  }

  /** Another peer has sent a block: this one need not. */
  onSentByOther(index: number, offset: number, bytes: Uint8Array): void {
    const block = this.#asked.get(index, offset);
    if (block === undefined) return;
    this.#lose([block]);
    this.#ends.toPeer(message(KIND.CANCEL, index, offset, block.length));
    this.#ends.toSwarm(pieceMessage(index, offset, bytes)); // or it would wait for it
  }

  /** A request is turned down. A peer that says it has a piece and turns down every request for it is left alone. */
  onReject(index: number, offset: number): boolean {
    const block = this.#asked.onReject(index, offset);
    if (block === undefined) return false;
    this.downloader?.lost(block);
    if (!this.#isChoked && ++this.#refusals >= MAX_REFUSALS) this.#ends.refuse(); // a choke turns down all that is open
    return true;
  }

  /** A piece is there no longer. */
  onDontHave(index: number): void {
    this.#lose(this.#asked.all().filter((block) => block.index === index));
  }

  /** The peer chokes us. @returns whether the swarm is to hear it */
  onChoke(): boolean {
    this.#isChoked = true;
    if (!this.#ends.hasFast) this.#lose();
    return !this.isAside;
  }

  /** The peer lets us ask. @returns whether the swarm is to hear it */
  onUnchoke(): boolean {
    this.#isChoked = false;
    return !this.isAside;
  }

  /** Has the swarm ask others for what this peer was asked for, until it is taken back for each reason. */
  setAside(reason: AsideReason): void {
    const wasAside = this.isAside;
    this.#reasons.add(reason);
    if (wasAside) return;
    this.#owedSinceMs = reason === 'silent' ? this.owesSinceMs : undefined;
    this.#ends.toSwarm(message(KIND.CHOKE));
    for (const { index, offset, length } of this.#lose()) {
      this.#ends.toPeer(message(KIND.CANCEL, index, offset, length));
      if (this.#ends.hasFast) this.#ends.toSwarm(message(KIND.REJECT, index, offset, length));
    }
  }

  takeBack(reason: AsideReason): void {
    if (!this.#reasons.delete(reason) || this.isAside) return;
    this.#owedSinceMs = undefined;
    if (this.#isChoked) return;
    this.#ends.toSwarm(message(KIND.UNCHOKE));
  }

  /** The connection has ended. */
  end(): void {
    this.#lose();
  }

  #lose(blocks?: readonly AskedBlock[]): readonly AskedBlock[] {
    const lost = this.#asked.withdraw(blocks);
    for (const block of lost) this.downloader?.lost(block);
    return lost;
  }
}
