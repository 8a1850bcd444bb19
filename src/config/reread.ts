import { stat } from 'node:fs/promises';
import { isNarswarmError } from '../errors.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { loadConfig, type Config } from './load.ts';
import type { Warn } from '../warning.ts';

/**
 * Returns a function that returns the current subscriptions, for long-running processes. It reads the config file again
 * after a change. A malformed or missing file changes nothing and causes one warning.
 *
 * @param config the config as first loaded
 */
export function subscriptionsNow(config: Config, onWarning: Warn): () => Promise<readonly Subscription[]> {
  let { subscriptions } = config;
  let seen: string | undefined;
  return async () => {
    const now = await identityOf(config.path);
    if (now === seen) return subscriptions;
    const isFirst = seen === undefined;
    seen = now;
    if (isFirst && !config.exists && now === GONE) return subscriptions;
    try {
      ({ subscriptions } = await loadConfig({ file: config.path }));
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      onWarning({ kind: 'earlier-config', error });
    }
    return subscriptions;
  };
}

const GONE = 'gone';

async function identityOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  return found === undefined ? GONE : `${found.ino}:${found.size}:${found.mtimeMs}`;
}
