import { setTimeout as sleep } from 'node:timers/promises';
import type { Member } from '../exchange/member.ts';
import type { Members } from '../exchange/members.ts';
import type { StoreHash } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import type { PublicKey } from '../nix/signature.ts';
import { admitNarInfo } from '../nix/sound-remarks.ts';
import { MAX_NARINFOS_PER_MESSAGE } from '../wire/bounds.ts';
import { withinMs } from '../within.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import type { NarInfoSource } from './find-narinfo.ts';
import { withSafeUrl } from './named-file.ts';
import type { NearSources } from './near-sources.ts';

export interface NeighbourNarInfosOptions {
  readonly members: Pick<Members, 'open' | 'isMeeting' | 'on' | 'off'>;
  /** Keys, of which one must have signed a narinfo, unless its content address proves its path. */
  readonly keys: readonly PublicKey[];
  /** Milliseconds to wait for the first neighbour, for a path that no other source has. */
  readonly waitMs: number;
  /** Milliseconds of silence of a neighbour after which it is given up. Default: 250. */
  readonly patienceMs?: number;
  /** Time for neighbours to answer our announcement, in milliseconds, before any cache is asked. Default: 20. */
  readonly answerMs?: number;
  /**
   * Milliseconds for which neighbours are asked again for a path that no other source has, after the first such path,
   * the last neighbour that came or the last path that they had. Only if no cache answers: neighbours may be about to
   * appear, be busy, or still check it. Default: 10,000.
   */
  readonly lastingMs?: number;
  /** Milliseconds of waiting in vain after which caches are asked at the same time as the neighbours. Default: 100. */
  readonly inVainMs?: number;
}

const PATIENCE_MS = 250;
/** The same while nobody else can be asked. */
const LASTING_PATIENCE_MS = 2_000;
const LASTING_MS = 10_000;
/** Pause between such questions. */
const ASK_AGAIN_MS = 250;
const ANSWER_MS = 20;
const IN_VAIN_MS = 100;
/** Time to connect to a neighbour that has answered. */
const MEET_MS = 50;
/** Extra time before the walk asks the next source: neighbours are given up first. */
const SLACK_MS = 150;

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
 * The narinfos of the neighbours, over the exchange. Sends the requests of one turn of the event loop in one message to
 * each neighbour. Asks the neighbour with the most answers first, then all others for the missing paths. Unsound
 * narinfos count as absent. While neighbours keep having nothing, the next source is asked at the same time. In its
 * first moment, waits for neighbours that may be about to appear, so that no cache is asked needlessly.
 */
export class NeighbourNarInfos implements NearSources {
  readonly upstreams: readonly [] = [];
  readonly #options: NeighbourNarInfosOptions;
  readonly #breakers = new WeakMap<Member, CircuitBreaker>();
  readonly #hits = new WeakMap<Member, number>();
  readonly #wanted = new Batches((wanted) => void this.#askFor(wanted));
  /** Paths that no other source has. */
  readonly #lasting = new Batches((wanted) => void this.#askAll(wanted));
  /** When a neighbour came or had a path, or was first needed. */
  #lifeAtMs: number | undefined;
  #arrived: Promise<unknown> | undefined;
  readonly #greeted: Promise<void>;
  #isGreeting = true;
  /** Time waited for missing paths, minus that for found ones. */
  #inVainMs = 0;
  readonly #source: NarInfoSource;
  readonly awaited: NarInfoSource;
  readonly lasting: NarInfoSource;

  constructor(options: NeighbourNarInfosOptions) {
    this.#options = options;
    this.#greeted = this.#greet();
    const name = 'the neighbours';
    const patienceMs = 2 * (options.patienceMs ?? PATIENCE_MS) + SLACK_MS;
    const { inVainMs = IN_VAIN_MS } = options;
    const patience = (): number => (this.#inVainMs >= inVainMs ? 0 : patienceMs);
    this.#source = {
      name,
      mayStall: true,
      get patienceMs() {
        return patience();
      },
      find: async (hash) => {
        if (this.#isGreeting) await this.#greeted;
        return this.#wanted.find(hash);
      },
    };
    this.awaited = {
      name,
      find: async (hash, signal) => {
        await this.#firstNeighbour(signal);
        return this.#wanted.find(hash);
      },
    };
    this.lasting = {
      name,
      mayStall: true,
      patienceMs: 0, // caches of the LAN are asked at the same time
      find: (hash, signal) => this.#findLasting(hash, signal),
    };
  }

  get sources(): readonly NarInfoSource[] {
    return this.#isGreeting || this.#neighbours().length > 0 ? [this.#source] : [];
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

  /** Asks all neighbours, also those that were silent or come late, until one has the path or none has had one for a time. */
  async #findLasting(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const { members, lastingMs = LASTING_MS } = this.#options;
    const onMember = (): void => void (this.#lifeAtMs = performance.now());
    this.#lifeAtMs ??= performance.now();
    members.on('member', onMember);
    try {
      for (;;) {
        const info = await this.#lasting.find(hash);
        if (info !== undefined || signal.aborted || performance.now() - this.#lifeAtMs > lastingMs) return info;
        await sleep(ASK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      members.off('member', onMember);
    }
  }

  /** Asks all neighbours for paths. Never rejects. */
  async #askAll(wanted: readonly Wanted[]): Promise<void> {
    await Promise.all(this.#connected().map((member) => this.#askOne(member, wanted, LASTING_PATIENCE_MS)));
    for (const { isFound, resolve } of wanted) if (!isFound) resolve(undefined);
  }

  /** Asks for paths. Never rejects. */
  async #askFor(wanted: readonly Wanted[]): Promise<void> {
    const beganAtMs = performance.now();
    const [first, ...others] = this.#neighbours();
    if (first !== undefined) await this.#askOne(first, wanted);
    const rest = wanted.filter(({ isFound }) => !isFound);
    if (rest.length > 0) await Promise.all(others.map((member) => this.#askOne(member, rest)));
    this.#weigh(performance.now() - beganAtMs, wanted);
    for (const { isFound, resolve } of rest) if (!isFound) resolve(undefined);
  }

  /**
   * Counts the time of one question for or against the neighbours. Found paths count twice, since each saves a request.
   */
  #weigh(ms: number, wanted: readonly Wanted[]): void {
    const { inVainMs = IN_VAIN_MS } = this.#options;
    const found = wanted.filter(({ isFound }) => isFound).length / wanted.length;
    this.#inVainMs = Math.min(2 * inVainMs, Math.max(0, this.#inVainMs + ms * (1 - 3 * found)));
  }

  /** Asks one neighbour. Gives up when it is silent for too long. */
  async #askOne(
    member: Member,
    wanted: readonly Wanted[],
    patienceMs = this.#options.patienceMs ?? PATIENCE_MS,
  ): Promise<void> {
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
      const info = soundOf(texts[index], one.hash, this.#options.keys);
      if (info === undefined || one.isFound) continue;
      one.isFound = true;
      this.#lifeAtMs = performance.now();
      this.#hits.set(member, (this.#hits.get(member) ?? 0) + 1);
      one.resolve(info);
    }
  }

  /** Gives neighbours a moment to answer our announcement, and time to connect to those that have answered. */
  async #greet(): Promise<void> {
    const { members, answerMs = ANSWER_MS } = this.#options;
    const arrival = this.#arrival(answerMs + MEET_MS);
    await withinMs(answerMs, arrival);
    if (members.isMeeting) await arrival;
    this.#isGreeting = false;
  }

  /** Waits for the first neighbour, once, and for a limited time. */
  async #firstNeighbour(signal: AbortSignal): Promise<void> {
    if (this.#neighbours().length > 0) return;
    this.#arrived ??= this.#arrival(this.#options.waitMs);
    const stop = new AbortController();
    const ended = sleep(this.#options.waitMs, undefined, {
      signal: AbortSignal.any([signal, stop.signal]),
      ref: false,
    });
    await Promise.race([this.#arrived, ended.catch(() => undefined)]);
    stop.abort();
  }

  /** Resolves when there is a neighbour, or after this time. */
  async #arrival(ms: number): Promise<void> {
    const { members } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.#neighbours().length > 0) resolve();
    };
    look();
    members.on('member', look);
    const timer = setTimeout(resolve, ms).unref();
    await promise;
    clearTimeout(timer);
    members.off('member', look);
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
