import { existsSync, statSync, type Dirent, type Stats } from 'node:fs';
import { lstat, readdir, realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import * as v from 'valibot';
import { readBounded } from '../disk/read-small.ts';
import { replaceFile } from '../disk/replace.ts';
import { systemCode } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { inState, STATE_FOLDER } from '../store/state-folder.ts';
import { diskError, onDisk } from './disk-error.ts';

/** Text for people who find the disk. */
const README = 'README.txt';
/** Bytes of a text that may be ours. */
const MAX_README_BYTES = 1024 * 1024;
/** Folders of a suitcase below which a pack writes into further ones. */
const DEEP = ['realisations', 'build-trace-v2', join(STATE_FOLDER, 'index')];
/** Bytes of a list of contents: more than a hundred thousand roots. */
const MAX_CONTENTS_BYTES = 16 * 1024 * 1024;

/** The contents of a suitcase, as its last pack has left them. */
export interface Contents {
  /** Time of packing, ISO 8601. */
  readonly at: string;
  /** The packed things, for people: names of subscriptions with their generations, and roots as given. */
  readonly what: readonly string[];
  readonly roots: readonly StorePath[];
  /** The things that the other site has, for people: paths of their closures were left out. */
  readonly since?: string | undefined;
}

const TEXT = v.pipe(v.string(), v.maxLength(4096));
const CONTENTS = v.object({
  version: v.literal(1),
  at: TEXT,
  what: v.array(TEXT),
  roots: v.array(v.pipe(TEXT, v.transform(parseStorePath))),
  since: v.optional(TEXT),
});

/**
 * Opens a folder as a suitcase: a binary cache in which `narswarm/` has the list of its contents and hash maps.
 *
 * @param options.create false for a dry run: nothing is made, and the folder need not exist
 * @throws STORE_UNWRITABLE, also if a link or a pipe is in the way; STORE_FULL; STORE_CORRUPT if it is a cache for another store directory
 */
export async function openSuitcase(
  dir: string,
  { create, storeDir }: { readonly create: boolean; readonly storeDir: string },
): Promise<FileStore> {
  await assertIs(join(dir, 'nix-cache-info'), (found) => found.isFile());
  for (const name of ['nar', 'log', STATE_FOLDER, join(STATE_FOLDER, 'packing'), ...DEEP])
    await assertIs(join(dir, name), (found) => found.isDirectory());
  for (const name of DEEP)
    for (const { parentPath, name: below } of await entriesBelow(join(dir, name)))
      await assertIs(join(parentPath, below), (found) => !found.isSymbolicLink());
  return onDisk(dir, () =>
    FileStore.open(dir, { create, storeDir, ...(create ? {} : { stateDir: join(dir, STATE_FOLDER) }) }),
  );
}

/**
 * Fails if something else is at a place in a suitcase. Strangers may have put links there, and a pack would then write
 * and remove files elsewhere.
 *
 * @throws STORE_UNWRITABLE
 */
async function assertIs(path: string, isRight: (found: Stats) => boolean): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || isRight(found)) return;
  throw new NarswarmError('STORE_UNWRITABLE', `${path} is in the way: remove it, or name another folder`, {
    facts: { path },
  });
}

/** Returns all that is below a folder. Follows no links. Nothing if there is no such folder. */
async function entriesBelow(folder: string): Promise<Dirent[]> {
  return readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw diskError(error, folder, 'read');
  });
}

/** Writes the texts about the contents, once everything else is on the disk. @returns the file with the one for people */
export function putContents(
  contents: Contents,
  suitcase: FileStore,
  readme: (contents: Contents, suitcase: FileStore) => string,
): Promise<string> {
  return onDisk(suitcase.dir, async () => {
    await suitcase.sync();
    const text = readme(contents, suitcase);
    // Somebody else's file of that name stays.
    const usual = join(suitcase.dir, README);
    const path = (await isFreeOrOurs(usual, text)) ? usual : inState(suitcase, README);
    await replaceFile(path, text);
    await replaceFile(contentsFile(suitcase), formatContents(contents));
    await suitcase.sync();
    return path;
  });
}

/** Returns true if nothing is at a place, or a text that begins with the same line, as every pack has written it. */
async function isFreeOrOurs(path: string, text: string): Promise<boolean> {
  if ((await lstat(path).catch(() => undefined)) === undefined) return true;
  const there = await readBounded(path, MAX_README_BYTES);
  return (
    there !== undefined &&
    Buffer.from(there)
      .toString()
      .startsWith(text.slice(0, text.indexOf('\n') + 1))
  );
}

/** Returns true if two paths lead to one folder. */
export async function isSameFolder(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => realpath(path).catch(() => resolve(path))));
  return a === b;
}

/** Returns the file with the contents of a suitcase, as text. */
export function contentsFile(suitcase: Pick<FileStore, 'stateDir'>): string {
  return inState(suitcase, 'suitcase.json');
}

export function formatContents(contents: Contents): string {
  return `${JSON.stringify({ version: 1, ...contents }, null, 1)}\n`;
}

/**
 * Reads the contents of a suitcase that strangers may have packed.
 *
 * @throws NOT_FOUND if it has none; STORE_CORRUPT if they are damaged
 */
export async function readContents(dir: string): Promise<Contents> {
  const path = contentsFile({ stateDir: join(dir, STATE_FOLDER) });
  const bytes = await onDisk(path, () => readBounded(path, MAX_CONTENTS_BYTES), 'read');
  if (bytes === undefined) {
    if (!existsSync(dir))
      throw new NarswarmError('NOT_FOUND', `there is no folder ${dir}: is the disk mounted?`, { facts: { path: dir } });
    if (!statSync(dir).isDirectory())
      throw new NarswarmError('NOT_FOUND', `${dir} is no folder: name the one that narswarm pack has written`, {
        facts: { path: dir },
      });
    throw new NarswarmError(
      'NOT_FOUND',
      `${dir} has no narswarm/suitcase.json, which narswarm pack writes at its end: run pack again to complete it, or take a path from there with narswarm fetch PATH --from ${dir}`,
      { facts: { path } },
    );
  }
  try {
    return v.parse(CONTENTS, JSON.parse(Buffer.from(bytes).toString()));
  } catch (cause) {
    throw new NarswarmError(
      'STORE_CORRUPT',
      `${path} is damaged: run narswarm pack again, or take a path from there with narswarm fetch PATH --from ${dir}`,
      { cause, facts: { path } },
    );
  }
}
