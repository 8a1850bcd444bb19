import { AskedBlocks, type AskedBlock } from './asked-blocks.ts';
import { MAX_REFUSALS } from './bounds.ts';
import type { Ends } from './ends.ts';
import { message, pieceMessage } from './messages.ts';
import { KIND } from './protocol.ts';

/** The reason why a peer is set aside: it sends nothing, or it may have sent wrong bytes. */
export type AsideReason = 'silent' | 'suspect';

/** The downloader over a connection. It knows which blocks are here, and which peer sent them. */
export interface Downloader {
  /**
   * Called before a request leaves.
   *
   * @returns the block, if it is already here; otherwise the number of the attempt at its piece
   */
  request(index: number, offset: number, length: number): Uint8Array | number;
  /** Called when a request is sent to the peer. */
  asked(block: AskedBlock): void;
  /** Called with a requested block, before the swarm sees it. The block must not change. */
  received(block: AskedBlock, bytes: Uint8Array): void;
  /** Called if a block will not come: it was rejected or withdrawn, or the connection has ended. */
  lost(block: AskedBlock): void;
}

/**
 * The requests to a peer. The swarm chooses the blocks, and gets only blocks that it requested. While a peer is set
 * aside, it looks to the swarm as if it choked us, so the swarm requests the blocks from others.
 */
export class AskingSide {
  /** Undefined if nothing is downloaded. */
  downloader: Downloader | undefined;
  readonly #ends: Ends;
  readonly #asked = new AskedBlocks();
  /** True while the peer itself chokes us. */
  #isChoked = true;
  #isInterested = false;
  #waitsSinceMs: number | undefined;
  readonly #reasons = new Set<AsideReason>();
  #refusals = 0;
  /** Time since which it owed the blocks that were withdrawn when it was set aside. */
  #owedSinceMs: number | undefined;

  constructor(ends: Ends) {
    this.#ends = ends;
  }

  /** True while the swarm requests blocks from it. */
  get isAsked(): boolean {
    return !this.#isChoked && !this.isAside;
  }

  get isAside(): boolean {
    return this.#reasons.size > 0;
  }

  /**
   * Time since which it could have sent the blocks that it owes, or that it owed when it was set aside as silent, in
   * milliseconds of `performance.now()`. Undefined if it owes none.
   */
  get owesSinceMs(): number | undefined {
    return this.#asked.size > 0 ? this.#asked.silentSinceMs : this.#owedSinceMs;
  }

  /**
   * Time since which the peer chokes us although it has something that the swarm wants, in milliseconds of
   * `performance.now()`. Undefined otherwise.
   */
  get waitsSinceMs(): number | undefined {
    return this.#waitsSinceMs;
  }

  /** Requested bytes that have not arrived. */
  get inFlightBytes(): number {
    return this.#asked.bytes;
  }

  /** Handles a message of the swarm about its interest. */
  onInterest(isInterested: boolean): void {
    this.#isInterested = isInterested;
    this.#onTurn();
  }

  /** Handles a request of the swarm. @returns true if the peer should get it */
  onRequest(index: number, offset: number, length: number): boolean {
    const known = this.downloader?.request(index, offset, length) ?? 0;
    if (typeof known !== 'number') {
      this.#ends.toSwarm(pieceMessage(index, offset, known));
      return false;
    }
    if (this.isAside) {
      // The request was sent before the swarm got the choke. Without the fast extension, the choke itself rejects it.
      if (this.#ends.hasFast) this.#ends.toSwarm(message(KIND.REJECT, index, offset, length));
      return false;
    }
    const block = this.#asked.add({ index, offset, length, attempt: known });
    if (block !== undefined) this.downloader?.asked(block);
    return block !== undefined;
  }

  /** Handles a block of the peer. @returns true if the swarm should get it */
  onBlock(index: number, offset: number, bytes: Uint8Array): boolean {
    const block = this.#asked.onBlock(index, offset, bytes.length);
    if (block === undefined) {
      if (this.#asked.isFlooded) this.#ends.refuse();
      this.takeBack('silent'); // it still answers earlier requests
      return false;
    }
    this.#refusals = 0;
    this.downloader?.received(block, bytes);
    this.#answer(block.times - 1, pieceMessage(index, offset, bytes));
    return true;
  }

  /** Handles a block that another peer has sent. This peer need not send it. */
  onSentByOther(index: number, offset: number, bytes: Uint8Array): void {
    const block = this.#asked.get(index, offset);
    if (block === undefined) return;
    this.#lose([block]);
    this.#ends.toPeer(message(KIND.CANCEL, index, offset, block.length));
    this.#answer(block.times, pieceMessage(index, offset, bytes)); // otherwise the swarm would wait for the block
  }

  /** Handles a rejected request. Disconnects a peer that claims pieces and rejects every request. */
  onReject(index: number, offset: number): boolean {
    const block = this.#asked.onReject(index, offset);
    if (block === undefined) return false;
    this.downloader?.lost(block);
    this.#answer(block.times - 1, message(KIND.REJECT, index, offset, block.length));
    if (!this.#isChoked && ++this.#refusals >= MAX_REFUSALS) this.#ends.refuse(); // a choke rejects all open requests
    return true;
  }

  /** Handles the loss of a piece. */
  onDontHave(index: number): void {
    this.#lose(this.#asked.all().filter((block) => block.index === index));
  }

  /** Handles a choke of the peer. @returns true if the swarm should get it */
  onChoke(): boolean {
    this.#isChoked = true;
    this.#onTurn();
    if (!this.#ends.hasFast) this.#lose();
    return !this.isAside;
  }

  /** Handles an unchoke of the peer. @returns true if the swarm should get it */
  onUnchoke(): boolean {
    this.#isChoked = false;
    this.#onTurn();
    return !this.isAside;
  }

  /** Sets the peer aside: the swarm requests its blocks from others until each reason is taken back. */
  setAside(reason: AsideReason): void {
    const wasAside = this.isAside;
    this.#reasons.add(reason);
    if (wasAside) return;
    this.#owedSinceMs = reason === 'silent' ? this.owesSinceMs : undefined;
    this.#ends.toSwarm(message(KIND.CHOKE));
    for (const { index, offset, length, times } of this.#lose()) {
      this.#ends.toPeer(message(KIND.CANCEL, index, offset, length));
      if (this.#ends.hasFast) this.#answer(times, message(KIND.REJECT, index, offset, length));
    }
  }

  takeBack(reason: AsideReason): void {
    if (!this.#reasons.delete(reason) || this.isAside) return;
    this.#owedSinceMs = undefined;
    if (this.#isChoked) return;
    this.#ends.toSwarm(message(KIND.UNCHOKE));
  }

  /**
   * Lets the swarm look again for a block to request from this peer. WebTorrent looks only when a message arrives, and
   * leaves blocks to faster peers, also to those that choke us.
   */
  remind(): void {
    if (this.isAsked && this.#isInterested) this.#ends.toSwarm(message(KIND.UNCHOKE));
  }

  /** Handles the end of the connection. */
  end(): void {
    this.#lose();
  }

  /** Answers requests of the swarm for one block. It may request a block again before it comes, and waits for each. */
  #answer(times: number, answer: Buffer): void {
    for (let count = 0; count < times; count++) this.#ends.toSwarm(answer);
  }

  #onTurn(): void {
    this.#waitsSinceMs = this.#isChoked && this.#isInterested ? (this.#waitsSinceMs ?? performance.now()) : undefined;
  }

  #lose(blocks?: readonly AskedBlock[]): readonly AskedBlock[] {
    const lost = this.#asked.withdraw(blocks);
    for (const block of lost) this.downloader?.lost(block);
    return lost;
  }
}
