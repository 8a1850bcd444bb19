import type { Member } from '../../exchange/member.ts';
import type { Members } from '../../exchange/members.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { isWithoutNar } from '../../nix/path-info.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { admitNarInfo } from '../../nix/sound-remarks.ts';
import { MAX_NARINFOS_PER_MESSAGE } from '../../wire/bounds.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { withSafeUrl } from '../plan/named-file.ts';

/** Silence after which a neighbour is given up if there is no other source. */
const LAST_PATIENCE_MS = 2_000;

export interface NeighbourQuestionsOptions {
  readonly members: Pick<Members, 'open'>;
  /** Keys, of which one must have signed a narinfo, unless its content address proves its path. */
  readonly keys: readonly PublicKey[];
  /** Milliseconds of silence after which a neighbour is given up. */
  readonly patienceMs: number;
  /** Called when a neighbour has a path. */
  readonly onFound: () => void;
  /** Called when a question of {@link NeighbourQuestions.find} has ended, with the part of its paths that were found. */
  readonly onEnded: (ms: number, foundPart: number) => void;
}

/** A path for which a caller waits. */
interface Wanted {
  readonly hash: StoreHash;
  readonly resolve: (info: NarInfo | undefined) => void;
  isFound: boolean;
}

/** Collects the paths that are wanted in one turn of the event loop, and asks for as many at once as fit a message. */
class Batches {
  readonly #ask: (wanted: readonly Wanted[]) => void;
  #wanted: Wanted[] = [];

  constructor(ask: (wanted: readonly Wanted[]) => void) {
    this.#ask = ask;
  }

  find(hash: StoreHash): Promise<NarInfo | undefined> {
    const { promise, resolve } = Promise.withResolvers<NarInfo | undefined>();
    if (this.#wanted.push({ hash, resolve, isFound: false }) === 1) setImmediate(() => this.#send());
    return promise;
  }

  #send(): void {
    const all = this.#wanted;
    this.#wanted = [];
    for (let at = 0; at < all.length; at += MAX_NARINFOS_PER_MESSAGE)
      this.#ask(all.slice(at, at + MAX_NARINFOS_PER_MESSAGE));
  }
}

/**
 * Asks neighbours for narinfos over the exchange. The questions of one turn of the event loop go to each neighbour in
 * one message. Unsound narinfos count as absent. A neighbour that is silent is left out for a while.
 */
export class NeighbourQuestions {
  readonly #options: NeighbourQuestionsOptions;
  readonly #breakers = new WeakMap<Member, CircuitBreaker>();
  /** Number of narinfos that each neighbour had. */
  readonly #hits = new WeakMap<Member, number>();
  readonly #some = new Batches((wanted) => void this.#askInOrder(wanted));
  readonly #all = new Batches((wanted) => void this.#askAll(wanted));

  constructor(options: NeighbourQuestionsOptions) {
    this.#options = options;
  }

  /** True if there is a neighbour that may be asked. */
  get hasNeighbour(): boolean {
    return this.#neighbours().length > 0;
  }

  /** Asks the neighbour with the most answers so far, then all others that may be asked. */
  find(hash: StoreHash): Promise<NarInfo | undefined> {
    return this.#some.find(hash);
  }

  /** Asks all neighbours, also those that were silent, with more patience. */
  findAtAll(hash: StoreHash): Promise<NarInfo | undefined> {
    return this.#all.find(hash);
  }

  /** Returns the neighbours that may be asked, the one with the most answers first. */
  #neighbours(): Member[] {
    const now = performance.now();
    const may = (member: Member): boolean => this.#breakers.get(member)?.mayAsk(now) ?? true;
    const hits = (member: Member): number => this.#hits.get(member) ?? 0;
    return this.#connected()
      .filter(may)
      .toSorted((a, b) => hits(b) - hits(a));
  }

  #connected(): Member[] {
    return [...this.#options.members.open].filter((member) => member.isNeighbour && member.isOpen);
  }

  /** Never rejects. */
  async #askInOrder(wanted: readonly Wanted[]): Promise<void> {
    const { patienceMs, onEnded } = this.#options;
    const beganAtMs = performance.now();
    const [first, ...others] = this.#neighbours();
    if (first !== undefined) await this.#ask(first, wanted, patienceMs);
    const rest = wanted.filter(({ isFound }) => !isFound);
    if (rest.length > 0) await Promise.all(others.map((member) => this.#ask(member, rest, patienceMs)));
    const found = wanted.filter(({ isFound }) => isFound).length;
    onEnded(performance.now() - beganAtMs, found / wanted.length);
    for (const { isFound, resolve } of rest) if (!isFound) resolve(undefined);
  }

  /** Never rejects. */
  async #askAll(wanted: readonly Wanted[]): Promise<void> {
    await Promise.all(this.#connected().map((member) => this.#ask(member, wanted, LAST_PATIENCE_MS)));
    for (const { isFound, resolve } of wanted) if (!isFound) resolve(undefined);
  }

  /** Asks one neighbour. Gives up when it is silent for too long. */
  async #ask(member: Member, wanted: readonly Wanted[], patienceMs: number): Promise<void> {
    const { keys, onFound } = this.#options;
    const breaker = this.#breakers.get(member) ?? new CircuitBreaker();
    this.#breakers.set(member, breaker);
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(SILENT), patienceMs);
    const hashes = wanted.map(({ hash }) => hash);
    const texts = await member.narInfos(hashes, stop.signal);
    clearTimeout(timer);
    if (stop.signal.aborted) breaker.noteFailure(performance.now());
    else breaker.noteAnswer();
    for (const [index, one] of wanted.entries()) {
      const info = soundOf(texts[index], one.hash, keys);
      if (info === undefined || one.isFound) continue;
      one.isFound = true;
      this.#hits.set(member, (this.#hits.get(member) ?? 0) + 1);
      onFound();
      one.resolve(info);
    }
  }
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const SILENT = new Error('a neighbour is silent');

/** Reads a trusted narinfo whose NAR the neighbour may have. Undefined for any other text. */
function soundOf(text: string | undefined, hash: StoreHash, keys: readonly PublicKey[]): NarInfo | undefined {
  if (text === undefined) return undefined;
  try {
    const info = parseNarInfo(text);
    return isWithoutNar(info) ? undefined : withSafeUrl(admitNarInfo(info, keys, hash, true));
  } catch {
    return undefined;
  }
}
