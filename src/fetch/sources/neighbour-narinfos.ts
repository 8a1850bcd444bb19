import { setTimeout as sleep } from 'node:timers/promises';
import type { Members } from '../../exchange/members.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { withinMs } from '../../within.ts';
import type { NarInfoSource } from './narinfo-sources.ts';
import type { NearSources } from './near-sources.ts';
import { NeighbourQuestions } from './neighbour-questions.ts';

export interface NeighbourNarInfosOptions {
  readonly members: Pick<Members, 'open' | 'isMeeting' | 'on' | 'off'>;
  /** Returns true if this machine has a network on which neighbours may appear. */
  readonly mayAppear: () => boolean;
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
  /**
   * Milliseconds of waiting without an answer after which caches are asked at the same time as the neighbours. Default:
   * 100.
   */
  readonly inVainMs?: number;
}

const PATIENCE_MS = 250;
const LASTING_MS = 10_000;
/** The same without a network: its interface may be about to come up, and is noticed within two seconds. */
const ALONE_MS = 2_000;
/** Pause between questions for a path that no other source has. */
const ASK_AGAIN_MS = 250;
const ANSWER_MS = 20;
const IN_VAIN_MS = 100;
/** Time to connect to a neighbour that has answered. */
const MEET_MS = 50;
/** Extra time before the walk asks the next source: neighbours are given up first. */
const SLACK_MS = 150;

/**
 * The narinfos of the neighbours. While neighbours keep having nothing, the next source is asked at the same time. In
 * its first moment, waits for neighbours that may be about to appear, so that no cache is asked needlessly.
 */
export class NeighbourNarInfos implements NearSources {
  readonly upstreams: readonly [] = [];
  readonly awaited: NarInfoSource;
  readonly lasting: NarInfoSource;
  readonly #source: NarInfoSource;
  readonly #options: NeighbourNarInfosOptions;
  readonly #questions: NeighbourQuestions;
  readonly #greeted: Promise<void>;
  #isGreeting = true;
  /** Resolves when the first neighbour has come, or was waited for. Undefined until it is needed. */
  #arrived: Promise<unknown> | undefined;
  /** When a neighbour came or had a path, or was first needed. */
  #lifeAtMs: number | undefined;
  /** Time waited for missing paths, minus that for found ones. */
  #inVainMs = 0;

  constructor(options: NeighbourNarInfosOptions) {
    this.#options = options;
    const { members, keys, inVainMs = IN_VAIN_MS } = options;
    this.#questions = new NeighbourQuestions({
      members,
      keys,
      patienceMs: options.patienceMs ?? PATIENCE_MS,
      onFound: () => void (this.#lifeAtMs = performance.now()),
      onEnded: (ms, foundPart) => this.#weigh(ms, foundPart),
    });
    this.#greeted = this.#greet();
    const name = 'the neighbours';
    const patienceMs = 2 * (options.patienceMs ?? PATIENCE_MS) + SLACK_MS;
    const patience = (): number => (this.#inVainMs >= inVainMs ? 0 : patienceMs);
    this.#source = {
      name,
      mayStall: true,
      get patienceMs() {
        return patience();
      },
      find: async (hash) => {
        if (this.#isGreeting) await this.#greeted;
        return this.#questions.find(hash);
      },
    };
    this.awaited = {
      name,
      find: async (hash, signal) => {
        await this.#firstNeighbour(signal);
        return this.#questions.find(hash);
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
    return this.#isGreeting || this.#questions.hasNeighbour ? [this.#source] : [];
  }

  /**
   * Counts the time of one question for or against the neighbours. Found paths count twice, since each saves a request.
   */
  #weigh(ms: number, foundPart: number): void {
    const { inVainMs = IN_VAIN_MS } = this.#options;
    this.#inVainMs = Math.min(2 * inVainMs, Math.max(0, this.#inVainMs + ms * (1 - 3 * foundPart)));
  }

  /** Asks all neighbours, also those that were silent or come late, until one has the path or none has had one for a time. */
  async #findLasting(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const { members, mayAppear, lastingMs = LASTING_MS } = this.#options;
    const onMember = (): void => void (this.#lifeAtMs = performance.now());
    this.#lifeAtMs ??= performance.now();
    members.on('member', onMember);
    try {
      for (;;) {
        const info = await this.#questions.findAtAll(hash);
        const patienceMs = mayAppear() ? lastingMs : Math.min(lastingMs, ALONE_MS);
        if (info !== undefined || signal.aborted || performance.now() - this.#lifeAtMs > patienceMs) return info;
        await sleep(ASK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      members.off('member', onMember);
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
    if (this.#questions.hasNeighbour) return;
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
      if (this.#questions.hasNeighbour) resolve();
    };
    look();
    members.on('member', look);
    const timer = setTimeout(resolve, ms).unref();
    await promise;
    clearTimeout(timer);
    members.off('member', look);
  }
}
