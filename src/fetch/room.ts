import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { NarswarmError } from '../errors.ts';
import { referencesFirst, type Closure } from './walk/closure.ts';
import type { FetchedNars } from './download/fetch-nars.ts';
import { notBegun } from './download/fetch-round.ts';
import type { NarJob } from './plan/job.ts';
import type { Plan } from './plan/plan.ts';

/** The room for NARs in a store with a budget, at the start of a fetch. */
export interface Room {
  /** Limit on the bytes of NARs in flight while the store is full: the most by which it exceeds its budget. */
  readonly inFlightBytes: number;
  /** The bytes that the budget leaves. Negative if the store exceeds it. */
  readonly freeBytes: number;
}

/** A NAR of a plan. */
interface Item {
  readonly job?: NarJob;
  readonly unsized?: NarInfo;
  readonly bytes: number;
  readonly hashes: readonly StoreHash[];
}

/** A plan in steps. Each NAR comes after those of its references, so each step can be committed. */
export class Steps {
  readonly #plan: Plan;
  readonly #items: readonly Item[];
  #at = 0;

  /** @param roots in the order in which their closures are fetched */
  constructor(plan: Plan, closure: Closure, roots: Iterable<StoreHash>) {
    this.#plan = plan;
    this.#items = itemsOf(plan, closure, roots);
  }

  /** Paths of later steps. */
  get later(): Set<StoreHash> {
    return new Set(this.#items.slice(this.#at).flatMap(({ hashes }) => hashes));
  }

  /** Returns the next step: as many NARs as fit into the limit, and at least one. Undefined after the last one. */
  next(limitBytes: number): Plan | undefined {
    const isFirst = this.#at === 0;
    const items: Item[] = [];
    let left = limitBytes;
    for (let item = this.#items[this.#at]; item !== undefined; item = this.#items[this.#at]) {
      if (items.length > 0 && item.bytes > left) break;
      left -= item.bytes;
      items.push(item);
      this.#at++;
    }
    if (items.length === 0) return undefined;
    return {
      ...this.#plan,
      jobs: items.flatMap(({ job }) => job ?? []),
      unsized: items.flatMap(({ unsized }) => unsized ?? []),
      verified: isFirst ? this.#plan.verified : [],
      jobBytes: items.reduce((sum, { job }) => sum + (job?.sizeBytes ?? 0), 0),
    };
  }
}

/** The parts of a fetch that steps need. */
export interface SteppedFetch {
  /** In the order in which their closures are fetched. */
  readonly roots: Iterable<StoreHash>;
  /** @param isFruitless true if nothing arrived in the step before: then a short wait for peers is enough */
  readonly fetch: (plan: Plan, closure: Closure, isFruitless: boolean) => Promise<FetchedNars>;
  /**
   * Commits the NARs that have arrived so far. Then removes other paths if the store exceeds its budget.
   *
   * @param later paths of later steps
   * @returns the bytes that the budget leaves
   */
  readonly settle: (fetched: FetchedNars | undefined, later: ReadonlySet<StoreHash>) => Promise<number>;
  readonly signal: AbortSignal;
}

/**
 * Fetches a plan into a store with a budget: at once if it fits, otherwise step after step. Other paths go only after
 * their replacement has arrived.
 *
 * @returns the results of all steps, of which only those that were not settled are in `checked`. Paths without room are
 *   failures
 * @throws as `fetch` and `settle`
 */
export async function fetchWithinRoom(
  plan: Plan,
  closure: Closure,
  room: Room,
  { roots, fetch, settle, signal }: SteppedFetch,
): Promise<FetchedNars> {
  const steps = new Steps(plan, closure, roots);
  const failures = new Map<StorePath, unknown>();
  const jobs: NarJob[] = [];
  let found = closure;
  let isFruitless = false;
  let free = room.freeBytes;
  if (free < 0) free = await settle(undefined, steps.later);
  for (let isFirst = true; ; isFirst = false) {
    const mayTake = free >= 0 && !signal.aborted;
    const step =
      (mayTake ? steps.next(free + room.inFlightBytes) : undefined) ?? (isFirst ? nothingOf(plan) : undefined);
    if (step === undefined) break;
    const fetched = await fetch(step, found, isFruitless);
    isFruitless = fetched.jobs.length + fetched.checked.length === 0;
    found = fetched.closure;
    jobs.push(...fetched.jobs);
    for (const [path, failure] of fetched.failures) failures.set(path, failure);
    const { later } = steps;
    if (isFirst && later.size === 0 && bytesOf(step) <= free) return { ...fetched, jobs, failures };
    free = await settle(fetched, later);
  }
  for (const hash of steps.later) {
    const path = closure.get(hash)?.storePath;
    if (path !== undefined) failures.set(path, signal.aborted ? notBegun(path) : withoutRoom(path));
  }
  return { closure: found, jobs, checked: [], failures };
}

/** Returns a plan without its NARs to fetch. */
function nothingOf(plan: Plan): Plan {
  return { ...plan, jobs: [], unsized: [], jobBytes: 0 };
}

function itemsOf(plan: Plan, closure: Closure, roots: Iterable<StoreHash>): Item[] {
  const items = new Map<StorePath, Item>();
  for (const job of plan.jobs) {
    const item = { job, bytes: job.sizeBytes, hashes: job.storePaths.map(storeHashOf) };
    for (const path of job.storePaths) items.set(path, item);
  }
  for (const unsized of plan.unsized) {
    const hash = storeHashOf(unsized.storePath);
    items.set(unsized.storePath, { unsized, bytes: unsized.narSize, hashes: [hash] });
  }
  const ordered = new Map([...roots].flatMap((hash) => entryOf(hash, closure)));
  for (const [hash, info] of closure) ordered.set(hash, info);
  return [...new Set(referencesFirst(ordered).flatMap(({ storePath }) => items.get(storePath) ?? []))];
}

function entryOf(hash: StoreHash, closure: Closure): [StoreHash, NarInfo][] {
  const info = closure.get(hash);
  return info === undefined ? [] : [[hash, info]];
}

function bytesOf({ jobBytes, unsized }: Plan): number {
  return unsized.reduce((sum, { narSize }) => sum + narSize, jobBytes);
}

function withoutRoom(path: StorePath): NarswarmError {
  const why = 'max-size leaves no room for it as long as other paths stay, such as those that were served just now';
  return new NarswarmError('STORE_OVER_BUDGET', `${path}: ${why}`, { facts: { path, why } });
}
