import { setTimeout as sleep } from 'node:timers/promises';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import type { FileHash } from '../nix/brands.ts';
import { mirrored } from '../subscription/mirror.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { asError, type Warn } from '../warning.ts';

/** Interval of checks whether there is something to fetch. */
const LOOK_MS = 1_000;
/** Pause before an incomplete mirror is updated again although nothing has changed. */
const RETRY_MS = 10 * 60_000;
/** Interval of questions to members for missing NARs of a mirror, unless a new member appears. */
const ASK_MS = 60_000;
/** Shortest pause between two updates because a member has missing NARs. Doubles while none of them arrives. */
const SOON_MS = 5_000;

export interface MirrorsOptions {
  /** Returns the subscriptions of the current configuration. */
  readonly subscriptions: () => Promise<readonly Subscription[]>;
  /**
   * Updates subscriptions. @returns the NARs that each lacks, by its name. A failed one that is not in the result may
   * lack any NAR
   */
  readonly update: (
    subscriptions: readonly Subscription[],
    signal: AbortSignal,
  ) => Promise<ReadonlyMap<string, MirrorLack>>;
  /** Returns true if a connected member holds one of these NARs. */
  readonly isHeldElsewhere: (nars: MirrorLack['nars'], signal: AbortSignal) => Promise<boolean>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/** The result of an update. */
export interface MirrorLack {
  readonly isComplete: boolean;
  /** Size in bytes of the NARs that no source delivered, by FileHash. */
  readonly nars: ReadonlyMap<FileHash, number>;
}

/** The last update of a mirror. */
interface Done {
  readonly seq: number;
  readonly lack: MirrorLack;
  /** When it is updated again in any case. Infinity if it is complete. */
  readonly retryAtMs: number;
  /** Pause before an update because a member has missing NARs. */
  readonly soonMs: number;
  readonly endedAtMs: number;
  /** When members were last asked for missing NARs. */
  askedAtMs: number;
}

/**
 * Keeps mirrors up to date: fetches the contents of a followed map as soon as the daemon holds an edition of it, and
 * missing NARs as soon as a member has them. Other subscriptions wait for `update`, which runs at a time that the user
 * chose.
 */
export class Mirrors implements AsyncDisposable {
  readonly #options: MirrorsOptions;
  readonly #stop = new AbortController();
  /** The newest edition of each followed map. */
  readonly #newest = new Map<string, number>();
  /** The last update of each subscription, by its name and source. */
  readonly #done = new Map<string, Done>();
  /** When the last member appeared. */
  #memberAtMs = -Infinity;
  #running: Promise<void>;
  /** Names of the subscriptions that are being updated. */
  updating: readonly string[] = [];

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.#running = this.#run(AbortSignal.any([options.signal, this.#stop.signal]));
  }

  /** Notes that the daemon holds an edition of a map. */
  onEdition(address: PublisherAddress, seq: number): void {
    this.#newest.set(mapFolder(address), seq);
  }

  /** Notes that a member appeared: it may hold missing NARs. */
  onMember(): void {
    this.#memberAtMs = performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const due = await this.#due(await this.#options.subscriptions(), signal);
        if (due.length > 0) await this.#update(due, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#options.onWarning({ kind: 'failed', error: asError(error) });
      }
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #due(subscriptions: readonly Subscription[], signal: AbortSignal): Promise<Due[]> {
    const due: Due[] = [];
    for (const subscription of subscriptions) {
      const address = mirrored(subscription);
      const seq = address === undefined ? undefined : this.#newest.get(mapFolder(address));
      if (seq === undefined) continue;
      const done = this.#done.get(keyOf(subscription));
      if (done?.seq !== seq) due.push({ subscription, seq, soonMs: SOON_MS });
      else if (performance.now() >= done.retryAtMs) due.push({ subscription, seq, soonMs: done.soonMs });
      else if (await this.#isFound(done, signal)) due.push({ subscription, seq, soonMs: 2 * done.soonMs });
    }
    return due;
  }

  /** Asks for missing NARs if a member appeared since the last question, or if that was a while ago. */
  async #isFound(done: Done, signal: AbortSignal): Promise<boolean> {
    const now = performance.now();
    const { lack, endedAtMs, soonMs, askedAtMs } = done;
    if (lack.isComplete || lack.nars.size === 0 || now < endedAtMs + soonMs) return false;
    if (this.#memberAtMs <= askedAtMs && now < askedAtMs + ASK_MS) return false;
    done.askedAtMs = now;
    return this.#options.isHeldElsewhere(lack.nars, signal);
  }

  async #update(due: readonly Due[], signal: AbortSignal): Promise<void> {
    let lacks: ReadonlyMap<string, MirrorLack> = new Map();
    this.updating = due.map(({ subscription }) => subscription.name);
    try {
      lacks = await this.#options.update(
        due.map(({ subscription }) => subscription),
        signal,
      );
    } finally {
      this.updating = [];
      const now = performance.now();
      for (const { subscription, seq, soonMs } of due) {
        const lack = lacks.get(subscription.name) ?? { isComplete: false, nars: new Map() };
        const before = this.#done.get(keyOf(subscription));
        const hasArrived = before?.seq === seq && lack.nars.size < before.lack.nars.size;
        this.#done.set(keyOf(subscription), {
          seq,
          lack,
          retryAtMs: lack.isComplete ? Infinity : now + RETRY_MS,
          soonMs: hasArrived ? SOON_MS : soonMs,
          endedAtMs: now,
          askedAtMs: -Infinity,
        });
      }
    }
  }
}

/** A mirror to update. */
interface Due {
  readonly subscription: Subscription;
  readonly seq: number;
  /** See {@link Done}, unless some of the missing NARs arrive. */
  readonly soonMs: number;
}

function keyOf({ name, source }: Subscription): string {
  return `${name} ${source}`;
}
