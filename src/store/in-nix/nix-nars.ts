import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import type { NarHash, StorePath } from '../../nix/brands.ts';
import { narHashOf } from '../../nix/hash.ts';
import { physicalPath } from '../../nix/store-place.ts';
import { mapTree } from './map-tree.ts';
import { TreeReader } from './tree-reader.ts';

/** Limit on the memory of all maps. A channel's closure has maps of about 20 MB. */
const MAX_MAPS_BYTES = 64 * 1024 * 1024;
/** Bytes that are read and hashed at a time. */
const READ_BYTES = 1024 * 1024;

/** A path that was read through the map of its NAR. */
export interface HashedTree {
  readonly narHash: NarHash;
  readonly narSize: number;
  /** When the path itself last changed: see {@link NixNars.changedAtMs}. */
  readonly changedAtMs: number;
}

interface Kept {
  readonly changedAtMs: number;
  readonly reader: Promise<TreeReader | undefined>;
  bytes: number;
}

/**
 * Reads NARs from the paths of this machine's Nix store. The map of a NAR is made by walking its path when it is first
 * asked for, and kept in memory. It is not stored, since the folders themselves are never out of date.
 */
export class NixNars {
  readonly #storeUri: string;
  /** Maps by path, the longest unused first. */
  readonly #kept = new Map<StorePath, Kept>();
  #keptBytes = 0;

  /** @param storeUri the Nix store. Default: that of this machine, which NIX_REMOTE may name */
  constructor(storeUri: string = process.env['NIX_REMOTE'] ?? '') {
    this.#storeUri = storeUri;
  }

  /** Bytes of memory that the kept maps take. */
  get memoryBytes(): number {
    return this.#keptBytes;
  }

  /**
   * Returns when a path itself (not the files in it) last changed, in whole milliseconds. Undefined if it is not there.
   * Nix never changes a path, so another time means that it was removed and made again, or that its links were merged.
   * Works synchronously: the system has the answer in memory.
   */
  changedAtMs(path: StorePath): number | undefined {
    const place = physicalPath(path, this.#storeUri);
    if (place === undefined) return undefined;
    try {
      const stats = lstatSync(place, { throwIfNoEntry: false });
      return stats && Math.floor(stats.ctimeMs);
    } catch {
      return undefined; // may not be looked at
    }
  }

  /**
   * Returns a reader of the NAR of a path.
   *
   * @param changedAtMs when the path last changed
   * @returns undefined if it has changed since, or cannot be read as a NAR: see {@link mapTree}
   */
  async reader(path: StorePath, changedAtMs: number): Promise<TreeReader | undefined> {
    if (this.changedAtMs(path) !== changedAtMs) {
      this.forget(path);
      return undefined;
    }
    const known = this.#kept.get(path);
    if (known?.changedAtMs === changedAtMs) {
      this.#kept.delete(path); // so that it is the last one
      this.#kept.set(path, known);
      return known.reader;
    }
    this.forget(path);
    const kept: Kept = { changedAtMs, reader: this.#open(path), bytes: 0 };
    this.#kept.set(path, kept);
    const reader = await kept.reader;
    if (reader === undefined) {
      if (this.#kept.get(path) === kept) this.forget(path);
    } else this.#count(path, kept, reader.map.memoryBytes);
    return reader;
  }

  /** Drops the map of a path. */
  forget(path: StorePath): void {
    const kept = this.#kept.get(path);
    if (kept === undefined) return;
    this.#kept.delete(path);
    this.#keptBytes -= kept.bytes;
  }

  /**
   * Reads a path through its map, and hashes its NAR.
   *
   * @param maxBytes a NAR that is larger is not read
   * @returns undefined if it cannot be read as a NAR, or changes meanwhile
   * @throws the signal's reason
   */
  async hash(path: StorePath, maxBytes: number, signal?: AbortSignal): Promise<HashedTree | undefined> {
    const changedAtMs = this.changedAtMs(path);
    const reader = changedAtMs === undefined ? undefined : await this.reader(path, changedAtMs);
    if (changedAtMs === undefined || reader === undefined || reader.map.narSize > maxBytes) return undefined;
    const { narSize } = reader.map;
    const sha256 = createHash('sha256');
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, narSize));
    try {
      for (let at = 0; at < narSize; at += buffer.length) {
        signal?.throwIfAborted();
        const part = buffer.subarray(0, Math.min(buffer.length, narSize - at));
        await reader.read(part, at);
        sha256.update(part);
      }
    } catch {
      signal?.throwIfAborted();
      return undefined;
    }
    if (this.changedAtMs(path) !== changedAtMs) return undefined;
    return { narHash: narHashOf(sha256.digest()), narSize, changedAtMs };
  }

  async #open(path: StorePath): Promise<TreeReader | undefined> {
    const place = physicalPath(path, this.#storeUri);
    const map = place === undefined ? undefined : await mapTree(place);
    return map && place !== undefined ? new TreeReader(place, map) : undefined;
  }

  /** Counts a new map, and drops the longest unused ones beyond the limit. */
  #count(path: StorePath, kept: Kept, bytes: number): void {
    if (this.#kept.get(path) !== kept) return; // dropped meanwhile
    kept.bytes = bytes;
    this.#keptBytes += bytes;
    for (const other of this.#kept.keys()) {
      if (this.#keptBytes <= MAX_MAPS_BYTES) return;
      if (other !== path) this.forget(other);
    }
  }
}
