import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { access, open, rename, unlink, type FileHandle } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { StorePath } from '../../nix/brands.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { appendAtOnce, cataloguePath } from './catalogue.ts';
import { isOnlyOfNix, parseEntry } from './catalogue-entry.ts';
import type { FileStore } from '../file-store.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { temporaryBeside } from '../../disk/replace.ts';

/** Size of the first read for the end of the last line. Most lines are shorter. */
const TAIL_BYTES = 64 * 1024;

/**
 * Removes catalogue lines whose paths no longer have a narinfo, and lines that later ones replaced. Does nothing if
 * there are none. Others may append meanwhile. They notice that the file was replaced (see {@link Catalogue.add}), and
 * lines that they wrote into the old file are carried over.
 *
 * @returns number of removed lines
 * @throws STORE_FULL, STORE_UNWRITABLE: then the catalogue is unchanged
 */
export async function compactCatalogue(store: FileStore): Promise<number> {
  const path = cataloguePath(store);
  const old = await open(path, 'r').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeError(error, path);
  });
  if (old === undefined) return 0;
  const temporary = temporaryBeside(path);
  try {
    const endBytes = await endOfLines(old);
    const { lastLines, count } = await judge(store, old, endBytes);
    if (count === 0) return 0;
    const output = createWriteStream(temporary);
    const written = finished(output);
    written.catch(() => undefined);
    let line = 0;
    for await (const text of linesOf(old, endBytes)) {
      const entry = parseEntry(text);
      if (entry !== undefined && lastLines.get(entry.storePath) === line && !output.write(`${text}\n`))
        await Promise.race([once(output, 'drain'), written]);
      line++;
    }
    output.end();
    await written;
    await rename(temporary, path);
    await carryOver(old, endBytes, path);
    return count;
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw storeError(error, path);
  } finally {
    await old.close();
  }
}

/**
 * Finds the last line of each path, and the number of all other lines. A line of the substituter does not replace a
 * line of somebody who has asked for the path.
 */
async function judge(
  store: FileStore,
  old: FileHandle,
  endBytes: number,
): Promise<{ lastLines: ReadonlyMap<StorePath, number>; count: number }> {
  const lastLines = new Map<StorePath, number>();
  const onlyOfNix = new Set<StorePath>();
  const gone = new Set<StorePath>();
  let line = 0;
  for await (const text of linesOf(old, endBytes)) {
    const entry = parseEntry(text);
    if (entry !== undefined && !gone.has(entry.storePath)) {
      const path = entry.storePath;
      const isKnown = lastLines.has(path);
      if (!isKnown && !(await isFile(store.narInfoPath(storeHashOf(path))))) gone.add(path);
      else if (!isOnlyOfNix(entry)) {
        lastLines.set(path, line);
        onlyOfNix.delete(path);
      } else if (!isKnown || onlyOfNix.has(path)) {
        lastLines.set(path, line);
        onlyOfNix.add(path);
      }
    }
    line++;
  }
  return { lastLines, count: line - lastLines.size };
}

/**
 * Carries over lines that others wrote into the old file after it was read: a writer may not have noticed the rename.
 */
async function carryOver(old: FileHandle, fromBytes: number, path: string): Promise<void> {
  const rest = Buffer.alloc((await old.stat()).size - fromBytes);
  if (rest.length === 0) return;
  await old.read(rest, 0, rest.length, fromBytes);
  const file = await open(path, 'a');
  try {
    await appendAtOnce(file, Buffer.concat([Buffer.from('\n'), rest, Buffer.from('\n')]));
  } finally {
    await file.close();
  }
}

/** Returns the number of bytes up to the end of the last whole line. */
async function endOfLines(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  for (let tailBytes = TAIL_BYTES; ; tailBytes *= 8) {
    const tail = Buffer.alloc(Math.min(size, tailBytes));
    await file.read(tail, 0, tail.length, size - tail.length);
    const end = tail.lastIndexOf('\n');
    if (end !== -1 || tail.length === size) return size - tail.length + end + 1;
  }
}

async function* linesOf(file: FileHandle, endBytes: number): AsyncGenerator<string> {
  if (endBytes === 0) return;
  const input = file.createReadStream({ start: 0, end: endBytes - 1, autoClose: false });
  for await (const line of createInterface({ input, crlfDelay: Infinity })) if (line !== '') yield line;
}

function isFile(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
