import { isNarswarmError, type NarswarmError } from '../../errors.ts';
import { buildPublication } from '../../publish/build-publication.ts';
import type { FileStore } from '../../store/file-store.ts';
import { publishedContents } from '../published.ts';
import type { RunUpdateOptions } from './run-update.ts';

/**
 * Publishes this machine's hash map, if it has one.
 *
 * @returns the failure of publishing. Nothing to publish is not a failure
 */
export async function publishOwn(store: FileStore, options: RunUpdateOptions): Promise<NarswarmError | undefined> {
  try {
    await publish(store, options);
    return undefined;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!isNarswarmError(error)) throw error;
    if (error.code !== 'NOT_FOUND') return error;
    options.onWarning({ kind: 'failed', error });
    return undefined;
  }
}

async function publish(store: FileStore, options: RunUpdateOptions): Promise<void> {
  const { publish: own, configured, keys, tellHashing, signal } = options;
  if (own === undefined) return;
  const { key, salt, validForMs, hints, recompression, deltas } = own;
  const built = await buildPublication({
    store,
    key,
    salt,
    validForMs,
    keys,
    tellHashing,
    signal,
    hints,
    recompression,
    deltas,
    keepsHints: true,
    contents: () => publishedContents(store, configured, keys),
    hasPublished: configured.some((subscription) => subscription.publish),
  });
  options.onPublished?.(built);
}
