import { setTimeout as sleep } from 'node:timers/promises';
import type { StorePath } from '../nix/brands.ts';
import type { Plan } from './plan/plan.ts';
import type { PrefetchOptions } from './prefetch-options.ts';
import type { PrefetchResult } from './prefetch-result.ts';
import type { FetchEvent, Tell } from './events.ts';
import { Progress } from './report.ts';
import { Workplace, type WorkplaceOptions } from './workplace.ts';
import type { Warn } from '../warning.ts';

/** Fetches roots as far as possible. */
export type FetchPart = (roots: readonly StorePath[]) => Promise<PrefetchResult>;

export interface RunFetchOptions extends PrefetchOptions, WorkplaceOptions {
  /** Fetches more after the roots; its errors end the fetch. Default: nothing. */
  readonly fetchMore?: ((fetch: FetchPart) => Promise<void>) | undefined;
  /** Milliseconds to continue seeding after everything is done. */
  readonly seedForMs: number;
  readonly signal: AbortSignal;
  /** Takes the events of the fetch. Default: warnings go to `onWarning`, other events are dropped. */
  readonly tell?: Tell;
  /** Called when everything requested is in the store and imported. Only seeding follows. */
  readonly onDone?: (result: RunFetchResult) => void | Promise<void>;
  /** Called when seeding begins, with the port. */
  readonly onSeeding?: (port: number) => void;
}

/** The results of a fetch, for its report. */
export interface RunFetchResult extends PrefetchResult {
  readonly progress: Progress;
}

/**
 * Opens the store, joins the network, fetches and imports, seeds for the requested time, and closes everything again.
 */
export async function runFetch(options: RunFetchOptions): Promise<RunFetchResult> {
  const { signal } = options;
  const progress = new Progress();
  const tell = tellBoth(progress, options);
  tell({ type: 'begun' });
  await using workplace = await Workplace.open(options);
  const { network } = workplace;
  if (options.publishers.length > 0) await network?.openDht(); // opened now, so that a port in use is reported
  const parts: PrefetchResult[] = [];
  const fetch = async (part: PrefetchOptions): Promise<PrefetchResult> => {
    const done = await workplace.prefetch(part, { tell, signal });
    parts.push(done);
    return done;
  };
  if (options.roots.length > 0 || options.fetchMore === undefined) await fetch(options);
  await options.fetchMore?.((roots) => fetch({ ...options, roots, keepGoing: true }));
  const result = { ...joined(parts), progress };
  await workplace.endFetches();
  await options.onDone?.(result);
  if (options.seedForMs > 0 && network !== undefined && options.dryRun !== true && !signal.aborted) {
    options.onSeeding?.(network.swarm.port);
    // An interruption ends only the seeding.
    await sleep(options.seedForMs, undefined, { signal }).catch(() => undefined);
  }
  return result;
}

/** Counts each event for the progress before passing it on. */
export function tellBoth(
  progress: Progress,
  { tell, onWarning }: { readonly tell?: Tell | undefined; readonly onWarning: Warn },
): Tell {
  return (event: FetchEvent) => {
    progress.take(event);
    if (tell !== undefined) tell(event);
    else if (event.type === 'warning') onWarning(event.warning);
  };
}

/** Combines several fetches into one. */
function joined(parts: readonly PrefetchResult[]): PrefetchResult {
  const [first] = parts;
  if (first === undefined) throw new TypeError('nothing was fetched');
  if (parts.length === 1) return first;
  return {
    ...first,
    closure: new Map(parts.flatMap(({ closure }) => [...closure])),
    plan: joinedPlan(parts.map(({ plan }) => plan)),
    roots: parts.flatMap(({ roots }) => roots),
    imported: parts.some(({ imported }) => imported),
    wanted: parts.flatMap(({ wanted }) => wanted),
    missing: parts.flatMap(({ missing }) => missing),
  };
}

function joinedPlan(plans: readonly Plan[]): Plan {
  const sum = (bytes: (plan: Plan) => number): number => plans.reduce((total, plan) => total + bytes(plan), 0);
  return {
    jobs: plans.flatMap(({ jobs }) => jobs),
    unsized: plans.flatMap(({ unsized }) => unsized),
    inStore: plans.flatMap(({ inStore }) => inStore),
    verified: plans.flatMap(({ verified }) => verified),
    valid: plans.flatMap(({ valid }) => valid),
    unheld: plans.flatMap(({ unheld }) => unheld),
    patches: new Map(plans.flatMap(({ patches }) => [...patches])),
    jobBytes: sum(({ jobBytes }) => jobBytes),
    storeBytes: sum(({ storeBytes }) => storeBytes),
  };
}
