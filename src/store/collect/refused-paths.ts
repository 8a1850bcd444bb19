import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { FileStore } from '../file-store.ts';
import type { NixNars } from '../in-nix/nix-nars.ts';
import { inState } from '../state-folder.ts';
import { replaceFile } from '../../disk/replace.ts';

/** By store path: when the path last changed, and the NarHash that it does not have. */
const SCHEMA = v.record(v.string(), v.object({ changedAtMs: v.number(), narHash: v.string() }));

/**
 * Paths of the Nix store that turned out to have other contents than the signed ones, as own builds may. They are not
 * read again while they and their narinfos stay the same.
 */
export class RefusedPaths {
  readonly #store: FileStore;
  readonly #nars: NixNars;
  readonly #refused: Map<string, v.InferOutput<typeof SCHEMA>[string]>;
  #hasNews = false;

  private constructor(store: FileStore, nars: NixNars, refused: v.InferOutput<typeof SCHEMA>) {
    this.#store = store;
    this.#nars = nars;
    this.#refused = new Map(Object.entries(refused));
  }

  /** Reads those of earlier runs. None if the file cannot be read: then some paths are read again. */
  static async read(store: FileStore, nars: NixNars): Promise<RefusedPaths> {
    const text = await readFile(inState(store, 'refused.json'), 'utf8').catch(() => '{}');
    try {
      return new RefusedPaths(store, nars, v.parse(SCHEMA, JSON.parse(text)));
    } catch {
      return new RefusedPaths(store, nars, {});
    }
  }

  has({ storePath, narHash }: Pick<NarInfo, 'storePath' | 'narHash'>): boolean {
    const known = this.#refused.get(storePath);
    return known?.narHash === narHash && known.changedAtMs === this.#nars.changedAtMs(storePath);
  }

  /** @param changedAtMs when the path that was read last changed */
  add({ storePath, narHash }: Pick<NarInfo, 'storePath' | 'narHash'>, changedAtMs: number): void {
    this.#refused.set(storePath, { changedAtMs, narHash });
    this.#hasNews = true;
  }

  /** Writes them, if there are new ones, without those that have changed since. @throws STORE_FULL, STORE_UNWRITABLE */
  async write(): Promise<void> {
    if (!this.#hasNews) return;
    for (const [path, { changedAtMs }] of this.#refused)
      if (this.#nars.changedAtMs(path as NarInfo['storePath']) !== changedAtMs) this.#refused.delete(path);
    await replaceFile(inState(this.#store, 'refused.json'), JSON.stringify(Object.fromEntries(this.#refused)));
  }
}
