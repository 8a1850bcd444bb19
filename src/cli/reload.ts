/** Reads the configuration of a running daemon again, and reports the changes. */
import type { Command } from 'commander';
import { isDeepStrictEqual } from 'node:util';
import type { RateLimits, Rates } from '../bytes/rate-limits.ts';
import type { RateSchedule } from '../bytes/rate-schedule.ts';
import type { ConfigKey } from '../config/keys.ts';
import { loadConfig, type Config } from '../config/load.ts';
import { isNarswarmError } from '../errors.ts';
import type { Subscription } from '../subscription/subscription.ts';
import type { Warn } from '../warning.ts';
import { reconfigure } from './options/configuration.ts';
import type { Output } from './output.ts';

/** Keys that the daemon reads again for each update of a mirror. */
const LIVE: ReadonlySet<ConfigKey> = new Set<ConfigKey>([
  'log-level',
  'max-size',
  'keep-generations',
  'keep-imported',
  'require',
  'publisher-timeout',
  'peer-timeout',
]);
const RATES: Partial<Record<ConfigKey, keyof Rates>> = {
  'max-download-rate': 'download',
  'max-upload-rate': 'upload',
  'max-wan-download-rate': 'wanDownload',
  'max-wan-upload-rate': 'wanUpload',
};

export interface ReloadOptions {
  readonly self: Command;
  readonly output: Output;
  /** The configuration that the daemon was started with. */
  readonly config: Config;
  readonly limits: RateLimits;
  readonly onWarning: Warn;
}

/**
 * Returns a function that reads the configuration again. Applies keys that need no restart, and names the others. If
 * the file is malformed, nothing changes.
 */
export function reloading({ self, output, config, limits, onWarning }: ReloadOptions): () => Promise<void> {
  const inForce = new Map(Array.from(config.values, ([key, { written }]) => [key, written] as const));
  let { subscriptions }: { subscriptions: readonly Subscription[] } = config;
  const isLive = (key: ConfigKey, value: unknown): boolean => {
    const rate = RATES[key];
    return rate === undefined ? LIVE.has(key) : limits.change(rate, value as RateSchedule | undefined);
  };
  return async () => {
    try {
      const now = await loadConfig({ file: self.optsWithGlobals<{ config?: string }>().config });
      const changes = {
        ...reconfigure(self, now, inForce, isLive),
        ...subscriptionChanges(subscriptions, now.subscriptions),
      };
      ({ subscriptions } = now);
      output.result('reloaded', { file: now.path, ...changes }, sentence(now.path, changes));
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      onWarning({ kind: 'earlier-config', error });
    }
  };
}

interface Changes {
  readonly applied: readonly string[];
  readonly waiting: readonly string[];
  /** Names of subscriptions. */
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

function subscriptionChanges(
  before: readonly Subscription[],
  after: readonly Subscription[],
): Pick<Changes, 'added' | 'changed' | 'removed'> {
  const [had, has] = [before, after].map((all) => new Map(all.map((one) => [one.name, factsOf(one)])));
  const names = (all: ReadonlyMap<string, unknown> = new Map()): string[] => [...all.keys()];
  return {
    added: names(has).filter((name) => had?.has(name) === false),
    changed: names(has).filter((name) => had?.has(name) === true && !isDeepStrictEqual(had.get(name), has?.get(name))),
    removed: names(had).filter((name) => has?.has(name) === false),
  };
}

/** Leaves out its line in the file. */
function factsOf({ source, file, import: imports, to, sources, ready, publish }: Subscription): object {
  return { source, file, imports, to, sources, ready, publish };
}

function sentence(file: string, { applied, waiting, added, changed, removed }: Changes): string {
  const parts = [
    ...(applied.length > 0 ? [`${applied.join(', ')} in force`] : []),
    ...(added.length > 0 ? [`subscribed to ${added.join(', ')}`] : []),
    ...(changed.length > 0 ? [`another subscription ${changed.join(', ')}`] : []),
    ...(removed.length > 0 ? [`no longer subscribed to ${removed.join(', ')}`] : []),
    ...(waiting.length > 0 ? [`restart the daemon for ${waiting.join(', ')}`] : []),
  ];
  return `read ${file} again: ${parts.length === 0 ? 'nothing has changed' : parts.join('; ')}`;
}
