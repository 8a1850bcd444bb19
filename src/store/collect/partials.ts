import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from '../../disk/names-in.ts';
import { stateOfOwner } from '../../disk/owner.ts';
import { remove } from '../../disk/remove.ts';
import { CLAIMS } from '../claims.ts';
import type { FileStore } from '../file-store.ts';
import { SavedPieces } from '../partial-bytes/saved-pieces.ts';
import { inState } from '../state-folder.ts';

/** Age of partial files that no subscription wants. The user may continue an interrupted `fetch`. */
const KEEP_UNWANTED_MS = 86_400_000;
/** The unit of `Stats.blocks`. */
const BLOCK_BYTES = 512;

interface Partial {
  readonly path: string;
  readonly bytes: number;
  readonly writtenAtMs: number;
}

/**
 * Removes partial files that nobody wants, those written longest ago first, until the store fits its budget. Files of
 * running processes stay, and those of the last day.
 *
 * @param options.wanted names of the files that subscriptions want
 * @param options.freeBytes bytes of the budget that the NARs leave to all partial files together
 * @param options.onRemoved called with each file after its removal; with `dryRun`, with each that would be removed
 * @returns the removed files
 * @throws STORE_UNWRITABLE; the signal's reason
 */
export async function removeUnwantedPartials(
  store: FileStore,
  options: {
    readonly wanted: ReadonlySet<string>;
    readonly freeBytes: number;
    readonly dryRun: boolean;
    readonly now: Date;
    readonly signal: AbortSignal;
    readonly onRemoved: (file: { path: string; bytes: number }) => void;
  },
): Promise<{ files: number; bytes: number }> {
  const { wanted, freeBytes, dryRun, now, signal, onRemoved } = options;
  const removable: Partial[] = [];
  let heldBytes = 0;
  for await (const { owner, name, ...partial } of partialFiles(store)) {
    heldBytes += partial.bytes;
    const isOld = now.getTime() - partial.writtenAtMs > KEEP_UNWANTED_MS;
    if (isOld && !wanted.has(name) && (await stateOfOwner(owner)) === 'gone') removable.push(partial);
  }
  const removed = { files: 0, bytes: 0 };
  for (const { path, bytes } of removable.toSorted((a, b) => a.writtenAtMs - b.writtenAtMs)) {
    if (heldBytes - removed.bytes <= freeBytes) break;
    signal.throwIfAborted();
    if (!dryRun) {
      await remove(path);
      await SavedPieces.drop(path);
    }
    removed.files++;
    removed.bytes += bytes;
    onRemoved({ path, bytes });
  }
  return removed;
}

/** Yields the partial files of all processes, with their bytes on the disk. Gaps take none. */
async function* partialFiles(store: FileStore): AsyncGenerator<Partial & { owner: string; name: string }> {
  const parent = inState(store, 'partial');
  for await (const owner of namesIn(parent)) {
    for await (const name of namesIn(join(parent, owner))) {
      if (name === CLAIMS || SavedPieces.isName(name)) continue;
      const path = join(parent, owner, name);
      const found = await stat(path).catch(() => undefined); // it may have moved to another process
      if (found?.isFile() !== true) continue;
      const bytes = Math.min(found.size, found.blocks * BLOCK_BYTES);
      yield { owner, name, path, bytes, writtenAtMs: found.mtimeMs };
    }
  }
}
