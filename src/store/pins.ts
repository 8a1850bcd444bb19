import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from './state-folder.ts';
import { makeFolderBelow } from '../disk/make-folder.ts';
import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { hashOfNamed } from '../nix/named-path.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import { remove } from '../disk/remove.ts';
import type { FileStore } from './file-store.ts';
import { storeError, systemCode, inStore } from '../disk/store-error.ts';
import { untilNobody } from './turn.ts';
import { replaceFile } from '../disk/replace.ts';

/** A path whose closure stays in the store until it is unpinned. */
export interface Pin {
  readonly storePath: StorePath;
  /** Time of pinning, ISO 8601. */
  readonly at: string;
}

/**
 * Pins a path with a file `narswarm/pins/<storehash>`.
 *
 * @throws NOT_FOUND if the store has no narinfo for it; the signal's reason
 */
export async function addPin(
  store: FileStore,
  named: StorePath | StoreHash,
  now: Date,
  signal: AbortSignal,
): Promise<Pin> {
  const hash = hashOfNamed(named);
  const first = await store.readNarInfo(hash);
  if (first === undefined) throw notHeld(store, named);
  const pin = { storePath: first.storePath, at: now.toISOString() };
  const folder = folderOf(store);
  await inStore(makeFolderBelow(store.dir, folder), folder);
  await replaceFile(join(folder, hash), `${JSON.stringify(pin)}\n`);
  await untilNobody(store, 'collecting', { signal }); // a running collector may not have seen the pin
  if ((await store.readNarInfo(hash)) !== undefined) return pin;
  await remove(join(folder, hash));
  throw notHeld(store, named);
}

/** Removes a pin. @throws NOT_FOUND if the path is not pinned */
export async function removePin(store: FileStore, named: StorePath | StoreHash): Promise<Pin> {
  const hash = hashOfNamed(named);
  const pin = await readPin(store, hash);
  if (pin === undefined) {
    throw new NarswarmError(
      'NOT_FOUND',
      `${named} is not pinned in ${store.dir}: narswarm pin lists the pinned paths`,
      {
        facts: { path: named },
      },
    );
  }
  await remove(join(folderOf(store), hash));
  return pin;
}

/**
 * Lists all pins, sorted by the names of their paths.
 *
 * @throws STORE_CORRUPT if a pin cannot be read, since the path that it keeps is then unknown
 */
export async function listPins(store: FileStore): Promise<Pin[]> {
  const names = await readdir(folderOf(store)).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw storeError(error, folderOf(store));
  });
  const hashes = names.filter((name) => /^[0-9a-z]{32}$/.test(name)).map(parseStoreHash);
  const pins = await Promise.all(hashes.map((hash) => readPin(store, hash)));
  return pins
    .filter((pin) => pin !== undefined)
    .toSorted((a, b) => a.storePath.slice(44).localeCompare(b.storePath.slice(44), 'en'));
}

async function readPin(store: FileStore, hash: StoreHash): Promise<Pin | undefined> {
  const path = join(folderOf(store), hash);
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeError(error, path);
  });
  if (text === undefined) return undefined;
  try {
    const pin = JSON.parse(text) as Partial<Pin>;
    const storePath = parseStorePath(String(pin.storePath));
    if (storeHashOf(storePath) !== hash) throw new Error(`it is for ${storePath}`);
    return { storePath, at: String(pin.at) };
  } catch (error) {
    throw new NarswarmError(
      'STORE_CORRUPT',
      `${path} is damaged (${(error as Error).message}): remove it and pin the path again`,
      { cause: error, facts: { path } },
    );
  }
}

function notHeld(store: FileStore, named: StorePath | StoreHash): NarswarmError {
  return new NarswarmError(
    'NOT_FOUND',
    `${store.dir} holds no narinfo of ${named}: fetch it first, or name another --store`,
    { facts: { path: named } },
  );
}

function folderOf(store: FileStore): string {
  return inState(store, 'pins');
}
