/** `nix-cache-info`, the file at the root of a binary cache (Nix: src/libstore/binary-cache-store.cc). */
import { NarswarmError } from '../errors.ts';
import { quote } from './quote.ts';
import { DEFAULT_STORE_DIR, parseStoreDir } from './store-path.ts';

/** The settings that a binary cache announces. */
export interface CacheInfo {
  /** The store directory of its paths. Default: `/nix/store`. */
  readonly storeDir: string;
  /** True if the cache prefers to be asked for many paths at once. Default: false. */
  readonly wantMassQuery: boolean;
  /** Lower numbers are asked first. Default: 0, as in Nix. */
  readonly priority: number;
}

/**
 * Reads a `nix-cache-info` as leniently as Nix does: trims values, skips unknown keys, and takes the last of repeated
 * keys.
 *
 * @throws NarswarmError `CACHE_INFO_INVALID` if the text has none of the keys (a login page, say), or if StoreDir or
 *   Priority is malformed.
 */
export function parseCacheInfo(text: string): CacheInfo {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key, value] = /^(StoreDir|WantMassQuery|Priority):(.*)$/s.exec(line) ?? [];
    if (key !== undefined && value !== undefined) fields.set(key, value.trim());
  }
  if (fields.size === 0) throw invalid('it has none of StoreDir, WantMassQuery and Priority');
  return {
    storeDir: readStoreDir(fields.get('StoreDir') ?? DEFAULT_STORE_DIR),
    wantMassQuery: fields.get('WantMassQuery') === '1',
    priority: readPriority(fields.get('Priority') ?? '0'),
  };
}

/** Writes all three keys, one per line. {@link parseCacheInfo} reads back the same values. */
export function formatCacheInfo(info: CacheInfo): string {
  return `StoreDir: ${info.storeDir}\nWantMassQuery: ${info.wantMassQuery ? 1 : 0}\nPriority: ${info.priority}\n`;
}

function readStoreDir(text: string): string {
  try {
    return parseStoreDir(text);
  } catch (cause) {
    throw invalid(`StoreDir is ${quote(text)}, not an absolute path`, { cause });
  }
}

function readPriority(text: string): number {
  const priority = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(priority)) {
    throw invalid(`Priority is ${quote(text)}, not a whole number`);
  }
  return priority;
}

function invalid(reason: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('CACHE_INFO_INVALID', `not the nix-cache-info of a binary cache: ${reason}`, options);
}
