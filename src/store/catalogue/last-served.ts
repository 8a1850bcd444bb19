import { closeSync, futimesSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { basename, dirname, join } from 'node:path';
import { inState } from '../state-folder.ts';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import type { InfoHash } from '../../nix/brands.ts';
import type { NarTorrent } from '../../torrent/canonical.ts';
import type { FileStore } from '../file-store.ts';
import { namesIn } from '../../disk/names-in.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import type { Warn } from '../../warning.ts';
import { remove } from '../../disk/remove.ts';

/** The part of a seed that names its NAR. */
interface GivenOut {
  readonly torrent: NarTorrent | Uint8Array;
  readonly files: readonly { readonly path: string }[];
}

/** Interval between two notes about the same NAR. */
const EVERY_S = 5 * 60;
/** A NAR served within this time counts as being served. At least twice {@link EVERY_S}. */
export const BEING_SERVED_MS = 10 * 60_000;

/** Limit on notes written in one turn: a crowd asks for thousands of NARs a second. */
const PER_TURN = 64;

/** Number of noted NARs that are always remembered. More are remembered only within {@link EVERY_S}. */
const REMEMBERED = 4096;

/**
 * Records when each NAR was last served, as the time of change of an empty file `narswarm/served/<name of the NAR>`.
 * The NAR's own time of access cannot be used: any reader changes it (`nix copy`, `verify`, a backup), and not every
 * mount records it.
 */
export class LastServed {
  readonly #folder: string;
  /** When each NAR was noted, in whole seconds of `performance.now`. There may be a hundred thousand. */
  readonly #toldAtS = new Map<string, number>();
  /** Names of NARs of more than one piece, by infohash. */
  readonly #names = new Map<InfoHash, string>();
  readonly #onWarning: Warn;
  /** Names that wait to be noted. */
  readonly #waiting = new Set<string>();
  #isDue = false;
  #writing: Promise<void> = Promise.resolve();
  #hasWarned = false;
  #notes = 0;

  constructor(store: FileStore, onWarning: Warn) {
    this.#folder = folderOf(store);
    this.#onWarning = onWarning;
  }

  /** Number of NARs that were served. One that is served for long, or again, counts again every five minutes. */
  get count(): number {
    return this.#notes;
  }

  /** Wraps a source of seeds, so that it notes the NARs that it gives out. */
  noting<S extends GivenOut>(
    seeds: (infoHash: InfoHash) => Promise<S | undefined>,
  ): (infoHash: InfoHash) => Promise<S | undefined> {
    return async (infoHash) => {
      const seed = await seeds(infoHash);
      const file = seed?.files[0];
      if (seed === undefined || file === undefined || !('infoHash' in seed.torrent)) return seed;
      const name = basename(file.path);
      const { sizeBytes, pieceLength } = seed.torrent;
      if (sizeBytes > pieceLength) this.#names.set(infoHash, name); // smaller NARs are noted with each request
      this.note(name);
      return seed;
    };
  }

  /** Call with payload that was sent. A large NAR is opened once and served for a long time. */
  onUpload = (infoHash: InfoHash): void => {
    const name = this.#names.get(infoHash);
    if (name !== undefined) this.note(name);
  };

  /**
   * Notes that a NAR is being served, by its file name. The note is written at the end of this turn of the event loop.
   *
   * @param key identifies the NAR and is remembered. Best a text that is in memory anyway
   */
  note(name: string, key = name): void {
    const nowS = Math.floor(performance.now() / 1000);
    if (nowS - (this.#toldAtS.get(key) ?? -Infinity) < EVERY_S) return;
    this.#notes++;
    this.#toldAtS.delete(key); // keeps the oldest note first
    this.#toldAtS.set(key, nowS);
    for (const [oldest, atS] of this.#toldAtS) {
      if (this.#toldAtS.size <= REMEMBERED || nowS - atS < EVERY_S) break;
      this.#toldAtS.delete(oldest);
    }
    this.#waiting.add(name);
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => void this.flush());
  }

  /** Writes the waiting notes. Never rejects: a NAR without a note may only be collected sooner. */
  flush(): Promise<void> {
    this.#isDue = false;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async #write(): Promise<void> {
    const names = [...this.#waiting];
    this.#waiting.clear();
    try {
      for (let at = 0; at < names.length; at += PER_TURN) {
        if (at > 0) await nextTurn();
        for (const name of names.slice(at, at + PER_TURN)) if (!touch(this.#folder, name)) await this.#make(name);
      }
    } catch (error) {
      if (!this.#hasWarned) this.#onWarning({ kind: 'failed', error: storeError(error, this.#folder) });
      this.#hasWarned = true;
    }
  }

  async #make(name: string): Promise<void> {
    await makeFolderBelow(dirname(dirname(this.#folder)), this.#folder);
    touch(this.#folder, name);
  }
}

/** Yields the file name and the last time (milliseconds since 1970) of each NAR that was ever served. */
export async function* readLastServed(store: FileStore): AsyncGenerator<{ name: string; atMs: number }> {
  for await (const name of namesIn(folderOf(store))) {
    const found = await stat(join(folderOf(store), name)).catch(() => undefined);
    if (found !== undefined) yield { name, atMs: found.mtimeMs };
  }
}

/** Removes the note of a removed NAR. */
export async function forgetServed(store: FileStore, name: string): Promise<void> {
  await remove(join(folderOf(store), name));
}

/** Makes a note, or sets the time of an existing one to now. Returns false if its folder does not exist. */
function touch(folder: string, name: string): boolean {
  try {
    const fd = openSync(join(folder, name), 'a');
    try {
      const now = new Date();
      futimesSync(fd, now, now);
    } finally {
      closeSync(fd);
    }
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function folderOf(store: FileStore): string {
  return inState(store, 'served');
}
