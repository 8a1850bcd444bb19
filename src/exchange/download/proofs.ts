import type { FileHash } from '../../nix/brands.ts';
import type { Source } from './unit.ts';

/** Time without a completed range after which the only member that may send a file is replaced by another. */
const ONLY_MS = 10_000;

/** A member that sends parts of a file. All connections of a peer count as one sender. */
export interface Sender extends Pick<Source, 'isSilent' | 'isLate' | 'has'> {
  readonly member: { readonly peer: object };
}

/** The sender and a hash of bytes of a file that can only be checked as a whole. */
export interface Proof<S extends Sender> {
  readonly origin: S;
  readonly lengthBytes: number;
  readonly sha1: string;
}

/** The sources of chance and time. */
export interface ProofsOptions {
  /** Default: `Math.random`. */
  readonly random?: () => number;
  /** Milliseconds from any start. Default: `performance.now`. */
  readonly now?: () => number;
}

/**
 * Records who sent which bytes of one file, so that a liar is found although only the whole file can be checked. If bytes of
 * several senders together were wrong, a single one sends the next attempt. Comparing them with the right ones in the end
 * shows who lied. Does no I/O.
 */
export class Proofs<S extends Sender> {
  readonly #file: FileHash;
  readonly #random: () => number;
  readonly #now: () => number;
  /** Proofs by unit: of the current attempt, and of an attempt that was wrong. */
  #proofs = new Map<number, Proof<S>>();
  #doubts: ReadonlyMap<number, Proof<S>> = new Map();
  /** Members that sent beginnings of ranges that others have completed. */
  readonly #begun = new Set<S>();
  /** Members that gave parts while they did not have the whole file. */
  #unfinished = new Set<S>();
  /** Peers that were the only one and did not send it. */
  readonly #passed = new Set<object>();
  #misfits = false;
  #only: S | undefined;
  /** When the only sender was chosen, or a range was last completed. */
  #onlyAtMs: number;

  constructor(file: FileHash, { random = Math.random, now = () => performance.now() }: ProofsOptions = {}) {
    this.#file = file;
    this.#random = random;
    this.#now = now;
    this.#onlyAtMs = now();
  }

  /** The only member that may send the file. Undefined if all may. */
  get only(): S | undefined {
    return this.#only;
  }

  /** True once all of the file came and was wrong. */
  get misfits(): boolean {
    return this.#misfits;
  }

  /** Returns the knowledge from earlier attempts, for bytes whose senders are unknown. */
  forOtherBytes(): Proofs<S> {
    const next = new Proofs<S>(this.#file, { random: this.#random, now: this.#now });
    next.#doubts = this.#doubts;
    for (const peer of this.#passed) next.#passed.add(peer);
    next.#misfits = this.#misfits;
    next.#only = this.#only;
    return next;
  }

  /** Records who sent a unit. */
  note(index: number, proof: Proof<S>): void {
    this.#proofs.set(index, proof);
  }

  /** Records that a member sent the beginning of a unit. */
  noteBegun(source: S): void {
    this.#begun.add(source);
  }

  /** Records that a member has sent a part which it had not checked, either: it does not have the whole file. */
  noteUnfinished(source: S): void {
    this.#unfinished.add(source);
  }

  /** Members that sent unchecked parts of the current attempt. */
  get unfinished(): ReadonlySet<S> {
    return this.#unfinished;
  }

  /** Returns true if a peer has sent some of the current attempt. */
  isFrom(peer: object): boolean {
    for (const { member } of this.#begun) if (member.peer === peer) return true;
    for (const { origin } of this.#proofs.values()) if (origin.member.peer === peer) return true;
    return false;
  }

  /** Forgets what a peer has sent: it is dropped. */
  forget(peer: object): void {
    for (const sources of [this.#begun, this.#unfinished])
      for (const source of sources) if (source.member.peer === peer) sources.delete(source);
    for (const [index, { origin }] of this.#proofs) if (origin.member.peer === peer) this.#proofs.delete(index);
  }

  /** Gives the only sender its time again: a range is complete, or requests begin. */
  noteProgress(): void {
    this.#onlyAtMs = this.#now();
  }

  /** Returns the proofs of a complete file, whose SHA-256 is right. */
  get right(): readonly Proof<S>[] {
    return [...this.#proofs.values()];
  }

  /** Returns the proofs of an attempt that was wrong, by unit. Some of them are of right bytes. */
  get doubts(): ReadonlyMap<number, Proof<S>> {
    return this.#doubts;
  }

  /**
   * Ends an attempt: the SHA-256 of the complete file is wrong. If several senders are in doubt, chooses one of the
   * sources for the next attempt.
   *
   * @param isMixed true if some of it came from others than members
   * @returns the liar. Undefined if it is not known yet
   */
  doubt(isMixed: boolean, sources: Iterable<S>): S | undefined {
    const senders = [...this.#begun, ...Array.from(this.#proofs.values(), ({ origin }) => origin)];
    const byPeer = new Map(senders.map((source) => [source.member.peer, source])); // a peer may connect twice
    const [first] = byPeer.values();
    const liar = byPeer.size === 1 && !isMixed && this.#unfinished.size === 0 ? first : undefined;
    if (liar === undefined && first !== undefined) {
      this.#doubts = this.#proofs;
      this.#chooseOnly(sources);
    }
    this.#misfits = true;
    this.#proofs = new Map();
    this.#begun.clear();
    this.#unfinished = new Set();
    return liar;
  }

  /**
   * Replaces the only sender if it does not send: it is silent, no longer has the file, or only seems to send.
   *
   * @returns the replaced sender, if it was replaced
   */
  replaceStalled(sources: Iterable<S>): S | undefined {
    const only = this.#only;
    if (only === undefined || !this.#isStalled(only)) return undefined;
    this.#passed.add(only.member.peer);
    this.#chooseOnly(sources);
    return only;
  }

  /** Records that a member has disconnected. If it was the only sender, another one is chosen: there may be more liars. */
  onGone(source: S, sources: Iterable<S>): void {
    if (this.#only === source) this.#chooseOnly(sources);
  }

  #isStalled(only: S): boolean {
    if (only.isSilent || only.isLate || only.has(this.#file) !== 'whole') return true;
    return this.#now() - this.#onlyAtMs > ONLY_MS;
  }

  /** Chooses the only sender. If none is left, all may send. */
  #chooseOnly(sources: Iterable<S>): void {
    const holders = [...sources].filter(
      (source) => !source.isSilent && source.has(this.#file) === 'whole' && !this.#passed.has(source.member.peer),
    );
    this.#only = holders[Math.floor(this.#random() * holders.length)];
    this.noteProgress();
  }
}
