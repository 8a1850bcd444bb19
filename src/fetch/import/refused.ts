import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { hashContents } from '../../store/hashing/nar-contents.ts';
import { systemCode } from '../../disk/store-error.ts';
import type { Closure } from '../walk/closure.ts';

/** NARs that are decompressed at the same time, in a search for the one that Nix refuses. */
const CONCURRENCY = availableParallelism();
/** Number of failed imports of single paths, before any succeeds, after which the target is to blame. */
const MAX_FAILURES = 8;

/** Returns the paths that Nix would import next: those that it lacks and whose references it has. */
export function nextToImport(closure: Closure, invalid: ReadonlySet<StorePath>): NarInfo[] {
  const isLacking = (hash: StoreHash): boolean => {
    const path = closure.get(hash)?.storePath;
    return path !== undefined && invalid.has(path);
  };
  return [...closure].flatMap(([hash, info]) => {
    const waits = info.references.some(
      (name) => !name.startsWith(hash) && isLacking(parseStoreHash(name.slice(0, 32))),
    );
    return isLacking(hash) && !waits ? [info] : [];
  });
}

/** Returns the paths whose NAR does not have the signed contents. */
export async function refusedOf(
  infos: readonly NarInfo[],
  store: FileStore,
  signal: AbortSignal,
): Promise<StorePath[]> {
  const refused: StorePath[] = [];
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const look = async (info: NarInfo): Promise<void> => {
    const local = await store.readNarInfoOf(info.storePath);
    if (local === undefined) return;
    try {
      const found = await hashContents(store.narPath(local), local.compression, info.narSize, signal);
      if (found.narHash !== info.narHash || found.narSize !== info.narSize) refused.push(info.storePath);
    } catch (error) {
      if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
      // A missing program says nothing about the file.
      if (systemCode(error.cause) !== 'ENOENT') refused.push(info.storePath);
    }
  };
  await queue.addAll(infos.map((info) => () => look(info)));
  return refused;
}

/**
 * Finds the paths that cannot be imported even alone, each with Nix's reason, and the number of paths that could be
 * imported. If nothing can be imported, perhaps no single path is to blame.
 *
 * @param importOne imports one path, whose references are there
 * @throws the signal's reason
 */
export async function refusedAlone(
  infos: readonly NarInfo[],
  importOne: (path: StorePath) => Promise<void>,
  signal: AbortSignal,
): Promise<{ refused: Map<StorePath, NarswarmError>; imported: number }> {
  const refused = new Map<StorePath, NarswarmError>();
  let imported = 0;
  for (const { storePath } of infos) {
    try {
      await importOne(storePath);
      imported++;
    } catch (error) {
      signal.throwIfAborted();
      if (!isNarswarmError(error, 'IMPORT_FAILED')) throw error;
      refused.set(storePath, error);
      if (imported === 0 && refused.size >= MAX_FAILURES) break;
    }
  }
  return { refused, imported };
}
