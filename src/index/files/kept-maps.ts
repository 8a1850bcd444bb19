import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from '../../store/state-folder.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { HashMap } from '../hash-map.ts';
import { IndexDir } from './index-dir.ts';
import { parseManifest } from '../manifest.ts';
import { parseManifestText } from '../format/manifest-text.ts';
import { NOT_HERE } from './not-here.ts';

/** Time for which a check of the folders is valid. An update may bring an edition at any moment. */
const FRESH_MS = 1_000;

interface Kept {
  /** Identity of the manifest that was read. */
  readonly identity: string;
  readonly map: HashMap;
}

/**
 * The hash maps that a store keeps: those that it follows (`narswarm/index/`) and its own (`narswarm/published/`), as
 * far as their shards are on the disk. Asks nothing over a network. Expired maps count, since they were published. A
 * map that was followed counts until its subscription is removed.
 */
export class KeptMaps {
  readonly #folders: readonly string[];
  #maps = new Map<string, Kept>();
  #version = 0;
  #looking: Promise<void> = Promise.resolve();
  #lookedAtMs = -Infinity;

  /** @param stateDir the folder `narswarm/` of a store */
  constructor(stateDir: string) {
    this.#folders = (['index', 'published'] as const).map((place) => inState({ stateDir }, place));
  }

  /**
   * Changes if a map is gone or has another edition: then earlier results may be wrong. New maps do not change it. It
   * may be a second late.
   */
  get version(): number {
    void this.#fresh();
    return this.#version;
  }

  /** Returns the records of a store path in all maps. Never throws: a damaged map has none. */
  async find(hash: StoreHash): Promise<NarInfo[]> {
    await this.#fresh();
    const { signal } = new AbortController();
    const records: NarInfo[] = [];
    for (const { map } of this.#maps.values()) {
      const record = await map.find(hash, signal).catch(() => undefined);
      if (record !== undefined) records.push(record);
    }
    return records;
  }

  #fresh(): Promise<void> {
    const now = performance.now();
    if (now - this.#lookedAtMs < FRESH_MS) return this.#looking;
    this.#lookedAtMs = now;
    this.#looking = this.#look();
    return this.#looking;
  }

  async #look(): Promise<void> {
    const found = new Map<string, Kept>();
    for (const folder of this.#folders) {
      for (const name of await readdir(folder).catch(() => [])) {
        const dir = join(folder, name);
        const kept = await open(dir, this.#maps.get(dir));
        if (kept !== undefined) found.set(dir, kept);
      }
    }
    for (const [dir, map] of this.#maps) if (found.get(dir) !== map) this.#version++;
    this.#maps = found;
  }
}

/** Opens the map in a folder, or returns the one that was opened before. Undefined if there is no sound one. */
async function open(dir: string, known: Kept | undefined): Promise<Kept | undefined> {
  const files = new IndexDir(dir);
  const found = await stat(join(dir, 'manifest')).catch(() => undefined);
  if (found === undefined || !(await files.isFollowed())) return undefined;
  const identity = `${found.ino}:${found.size}:${found.mtimeMs}`;
  if (known?.identity === identity) return known;
  try {
    const bytes = (await files.readManifest()) ?? new Uint8Array();
    const { publicKeyHex } = parseManifestText(new TextDecoder().decode(bytes));
    const publicKey = Buffer.from(publicKeyHex, 'hex');
    const manifest = parseManifest(bytes, { publicKey, now: new Date(), allowExpired: true });
    // A fetch of a named root has left the shards of that root alone.
    const options = { searchesAllRoots: true };
    return { identity, map: new HashMap(dir, { manifest, bytes, fetchedBytes: 0 }, files, NOT_HERE, options) };
  } catch {
    return undefined; // damaged, or still being written
  }
}
