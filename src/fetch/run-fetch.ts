import { setTimeout as sleep } from 'node:timers/promises';
import type { PrefetchOptions, PrefetchResult } from './prefetch.ts';
import { Progress } from './report.ts';
import { Workplace, type WorkplaceOptions } from './workplace.ts';

export interface RunFetchOptions extends Omit<PrefetchOptions, 'limit'>, WorkplaceOptions {
  /** Milliseconds to go on seeding after everything is done. */
  readonly seedForMs: number;
  readonly signal: AbortSignal;
  /** Given the progress as soon as there is one to show. */
  readonly onProgress?: (progress: Progress) => void;
  /** Everything asked for is in the store and imported; what follows is seeding alone. */
  readonly onDone?: (result: RunFetchResult) => void;
  /** Seeding begins, on this port. */
  readonly onSeeding?: (port: number) => void;
}

/** What a fetch did, for its report. */
export interface RunFetchResult extends PrefetchResult {
  readonly progress: Progress;
}

/** Opens the store, joins the network, fetches and imports, seeds as long as asked, and closes everything again. */
export async function runFetch(options: RunFetchOptions): Promise<RunFetchResult> {
  const { signal } = options;
  const progress = new Progress(options.onWarning);
  options.onProgress?.(progress);
  await using workplace = await Workplace.open(options);
  const { network } = workplace;
  if (options.publishers.length > 0) await network?.openDht(); // now, so that a port in use is said
  const result = { ...(await workplace.prefetch(options, { progress, signal })), progress };
  await workplace.endFetches();
  options.onDone?.(result);
  if (options.seedForMs > 0 && network !== undefined && options.dryRun !== true && !signal.aborted) {
    options.onSeeding?.(network.swarm.port);
    await sleep(options.seedForMs, undefined, { signal }).catch(() => undefined); // interrupted: all else is done
  }
  return result;
}
