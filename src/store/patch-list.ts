import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { makeFolderBelow } from '../disk/make-folder.ts';
import { storeError } from '../disk/store-error.ts';
import type { InfoHash, NarHash, StorePath } from '../nix/brands.ts';
import { asFileHash, asNarHash } from '../nix/hash.ts';
import { parseBaseName, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import { appendAtOnce } from './catalogue/catalogue.ts';
import { FileStore } from './file-store.ts';
import { inState } from './state-folder.ts';
import { narTorrent } from '../torrent/canonical.ts';
import { PATCH_EXTENSION, type Delta } from '../delta/record.ts';
import { unlessInvalid } from '../delta/unless-invalid.ts';
import { replaceFile, moveFile } from '../disk/replace.ts';

/** A patch whose file is in the store: this process or another has checked that it gives the NAR of the path. */
export interface KeptPatch extends Delta {
  readonly storePath: StorePath;
  readonly narHash: NarHash;
}

/** A base with which a patch of a path would have been too large. It is not tried again. */
export interface VainBase extends Pick<KeptPatch, 'storePath' | 'narHash' | 'baseNarHash'> {
  readonly isVain: true;
}

const LINE = v.object({
  storePath: v.string(),
  narHash: v.string(),
  baseName: v.optional(v.string()),
  baseNarHash: v.string(),
  baseNarSize: v.optional(v.number()),
  sizeBytes: v.optional(v.number()),
  fileHash: v.optional(v.string()),
  pieces: v.optional(v.string()),
});

/**
 * The patches of a store: `narswarm/patches.jsonl`, one JSON object per line. Lines are only appended, so that several
 * processes may append at once. A line whose file is gone is ignored; gc drops it.
 */
export class PatchList {
  readonly #store: FileStore;
  readonly #path: string;
  readonly #byPath = new Map<StorePath, KeptPatch[]>();
  readonly #byInfoHash = new Map<InfoHash, KeptPatch>();
  readonly #vain = new Map<string, VainBase>();
  /** Identity of the file as it was read. */
  #readOf = '';

  constructor(store: FileStore) {
    this.#store = store;
    this.#path = inState(store, 'patches.jsonl');
    this.refresh();
  }

  /** Reads the list again if its file has changed. Returns true if it has. */
  refresh(): boolean {
    const found = statSync(this.#path, { throwIfNoEntry: false });
    const now = found === undefined ? '' : `${found.ino} ${found.size} ${found.mtimeMs}`;
    if (now === this.#readOf) return false;
    this.#readOf = now;
    this.#byPath.clear();
    this.#byInfoHash.clear();
    this.#vain.clear();
    if (found === undefined) return true;
    for (const line of readFileSync(this.#path, 'utf8').split('\n')) this.#take(parseLine(line));
    return true;
  }

  all(): Iterable<KeptPatch> {
    return this.#byInfoHash.values();
  }

  /** Returns the patches of a path whose files are here, the newest first. */
  of(path: StorePath): KeptPatch[] {
    return (this.#byPath.get(path) ?? []).filter((patch) => this.isHere(patch)).toReversed();
  }

  byInfoHash(infoHash: InfoHash): KeptPatch | undefined {
    return this.#byInfoHash.get(infoHash);
  }

  /** Returns true if a patch of that pair is here, or would have been too large. */
  isDone(pair: Pick<KeptPatch, 'storePath' | 'narHash' | 'baseNarHash'>): boolean {
    return (
      this.#vain.has(pairOf(pair)) ||
      this.of(pair.storePath).some(
        ({ narHash, baseNarHash }) => narHash === pair.narHash && baseNarHash === pair.baseNarHash,
      )
    );
  }

  /** Returns the path of a patch's file. */
  pathOf({ torrent }: Delta): string {
    return this.#store.narPath({ url: patchUrl(torrent), storePath: '' as StorePath });
  }

  isHere(patch: Delta): boolean {
    const found = statSync(this.pathOf(patch), { throwIfNoEntry: false });
    return found?.isFile() === true && found.size === patch.torrent.sizeBytes;
  }

  /** Moves the file of a patch to its place, and adds the patch. @throws STORE_FULL, STORE_UNWRITABLE */
  async place(file: string, patch: KeptPatch): Promise<void> {
    await moveFile(file, this.pathOf(patch));
    await this.add(patch);
  }

  /**
   * Adds a patch whose file is in its place, or a base that gave no small patch. @throws STORE_FULL, STORE_UNWRITABLE
   */
  async add(patch: KeptPatch | VainBase): Promise<void> {
    try {
      await makeFolderBelow(dirname(dirname(this.#path)), dirname(this.#path));
      await using file = await open(this.#path, 'a');
      // A leading newline separates it from a line torn by a crash.
      await appendAtOnce(file, Buffer.from(`\n${formatLine(patch)}\n`));
    } catch (error) {
      throw storeError(error, this.#path);
    }
    this.#take(patch);
  }

  /**
   * Drops the lines whose file or path is gone. A line that another process appends at this moment may be lost: its patch is
   * made again, or not passed on.
   *
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  async compact(): Promise<void> {
    this.refresh();
    const isPathHere = ({ storePath }: Pick<KeptPatch, 'storePath'>): boolean =>
      statSync(this.#store.narInfoPath(storeHashOf(storePath)), { throwIfNoEntry: false }) !== undefined;
    const all = [...this.#byInfoHash.values(), ...this.#vain.values()];
    const lasting = all.filter((one) => ('isVain' in one || this.isHere(one)) && isPathHere(one));
    if (lasting.length === all.length) return;
    await replaceFile(this.#path, lasting.map((one) => `${formatLine(one)}\n`).join(''));
    this.refresh();
  }

  #take(patch: KeptPatch | VainBase | undefined): void {
    if (patch === undefined) return;
    if ('isVain' in patch) {
      this.#vain.set(pairOf(patch), patch);
      return;
    }
    this.#byInfoHash.set(patch.torrent.infoHash, patch);
    const others = (this.#byPath.get(patch.storePath) ?? []).filter(
      ({ torrent }) => torrent.infoHash !== patch.torrent.infoHash,
    );
    this.#byPath.set(patch.storePath, [...others, patch]);
  }
}

/** Returns the URL of a patch's file: `nar/<filehash>.nar.delta`, relative to the store. */
export function patchUrl({ fileHash }: Pick<Delta['torrent'], 'fileHash'>): string {
  return FileStore.narUrl(fileHash, PATCH_EXTENSION);
}

function pairOf({ storePath, narHash, baseNarHash }: Pick<KeptPatch, 'storePath' | 'narHash' | 'baseNarHash'>): string {
  return `${storePath} ${narHash} ${baseNarHash}`;
}

function formatLine(patch: KeptPatch | VainBase): string {
  const { storePath, narHash, baseNarHash } = patch;
  const pair = { storePath, narHash: `sha256:${narHash}`, baseNarHash: `sha256:${baseNarHash}` };
  if ('isVain' in patch) return JSON.stringify(pair);
  const { baseName, baseNarSize, torrent } = patch;
  const { sizeBytes, fileHash } = torrent;
  const pieces = Buffer.from(torrent.pieces).toString('base64');
  return JSON.stringify({ ...pair, baseName, baseNarSize, sizeBytes, fileHash: `sha256:${fileHash}`, pieces });
}

/** Undefined for a line that a crash has torn. */
function parseLine(text: string): KeptPatch | VainBase | undefined {
  if (text === '') return undefined;
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch {
    return undefined;
  }
  const line = v.safeParse(LINE, read);
  if (!line.success) return undefined;
  const { baseName, baseNarSize, sizeBytes, fileHash, pieces, ...pair } = line.output;
  return unlessInvalid(() => {
    const storePath = parseStorePath(pair.storePath);
    const [narHash, baseNarHash] = [asNarHash(pair.narHash), asNarHash(pair.baseNarHash)];
    if (baseName === undefined || baseNarSize === undefined || sizeBytes === undefined) {
      return { storePath, narHash, baseNarHash, isVain: true };
    }
    const torrent = narTorrent({
      fileHash: asFileHash(fileHash ?? ''),
      extension: PATCH_EXTENSION,
      sizeBytes,
      pieces: Buffer.from(pieces ?? '', 'base64'),
    });
    return { storePath, narHash, baseName: parseBaseName(baseName), baseNarHash, baseNarSize, torrent };
  });
}
