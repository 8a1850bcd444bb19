import { stat } from 'node:fs/promises';
import { isNarswarmError } from '../errors.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { loadConfig, type Config } from './load.ts';

/**
 * The subscriptions as the config file has them at each call, for what runs long: the file is read again when it has
 * changed. One that is malformed or gone changes nothing, and is told once.
 *
 * @param config as it was read first
 */
export function subscriptionsNow(
  config: Config,
  onWarning: (message: string) => void,
): () => Promise<readonly Subscription[]> {
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
      onWarning(`${error.message}; what was read before still holds`);
    }
    return subscriptions;
  };
}

const GONE = 'gone';

async function identityOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  return found === undefined ? GONE : `${found.ino}:${found.size}:${found.mtimeMs}`;
}
