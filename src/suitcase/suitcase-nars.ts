import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { link, open, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { systemCode } from '../disk/store-error.ts';
import type { FileHash, StorePath } from '../nix/brands.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import { FileStore } from '../store/file-store.ts';
import { copyNar, type CopyOptions } from './copy-nar.ts';
import { onDisk } from './disk-error.ts';
import { StagedFiles } from './staged-files.ts';

/** A NAR file that belongs into a suitcase. */
export interface SuitcaseNar {
  /** The first path that has it. */
  readonly storePath: StorePath;
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** Its name in `nar/`. */
  readonly name: string;
}

/** The NARs of a suitcase, by the work that they need. */
export interface NarPlan {
  readonly there: readonly SuitcaseNar[];
  readonly toWrite: readonly SuitcaseNar[];
  /** Bytes of `toWrite` that an interrupted run has written. */
  readonly partBytes: number;
}

/** Returns the NAR files of paths, each once. Leaves out paths whose narinfo names no file. */
export function narsOf(infos: Iterable<NarInfo>): SuitcaseNar[] {
  const nars = new Map<FileHash, SuitcaseNar>();
  for (const info of infos) {
    const file = namedFile(info);
    if (file === undefined || nars.has(file.fileHash)) continue;
    const { fileHash, sizeBytes, extension } = file;
    const name = basename(FileStore.narUrl(fileHash, extension));
    nars.set(fileHash, { storePath: info.storePath, fileHash, sizeBytes, name });
  }
  return [...nars.values()];
}

/** Looks which NARs a suitcase has. A file under its own name counts if it has the right size. */
export function planNars(nars: readonly SuitcaseNar[], suitcase: Pick<FileStore, 'dir'>): NarPlan {
  const there: SuitcaseNar[] = [];
  const toWrite: SuitcaseNar[] = [];
  let partBytes = 0;
  for (const nar of nars) {
    const path = placeOf(nar, suitcase);
    if (fileSizeOf(path) === nar.sizeBytes) {
      there.push(nar);
      continue;
    }
    toWrite.push(nar);
    const part = fileSizeOf(StagedFiles.partOf(path)) ?? 0;
    if (part <= nar.sizeBytes) partBytes += part;
  }
  return { there, toWrite, partBytes };
}

/** Returns the NARs whose file does not have its FileHash. @throws STORE_UNWRITABLE; the signal's reason */
export async function wrongNars(
  nars: readonly SuitcaseNar[],
  suitcase: Pick<FileStore, 'dir'>,
  options: CopyOptions & { readonly onNar: () => void },
): Promise<SuitcaseNar[]> {
  const wrong: SuitcaseNar[] = [];
  for (const nar of nars) {
    if ((await hashOf(placeOf(nar, suitcase), options)) !== nar.fileHash) wrong.push(nar);
    options.onNar();
  }
  return wrong;
}

export interface WriteOptions extends CopyOptions {
  readonly source: FileStore;
  readonly suitcase: FileStore;
  /** False to copy even where a link would do, since that checks the NAR of the file store. */
  readonly mayLink: boolean;
  /** Called for each NAR that is on the disk under its name. */
  readonly onNar: (nar: SuitcaseNar) => void;
}

/**
 * Links NARs of the file store into a suitcase on the same disk, and copies them to any other.
 *
 * @throws STORE_CORRUPT for a damaged NAR of the file store; STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function writeNars(
  nars: readonly SuitcaseNar[],
  { source, suitcase, onNar, mayLink: links, ...options }: WriteOptions,
): Promise<void> {
  let mayLink = links && (await isSameDisk(source.dir, suitcase.dir));
  const byPath = new Map(nars.map((nar) => [placeOf(nar, suitcase), nar]));
  const staged = new StagedFiles(suitcase, (paths) => {
    for (const path of paths) onNar(byPath.get(path)!);
  });
  for (const [path, nar] of byPath) {
    options.signal.throwIfAborted();
    const from = placeOf(nar, source);
    const part = StagedFiles.partOf(path);
    mayLink = mayLink && (await linked(from, part));
    if (mayLink) options.onBytes(nar.sizeBytes);
    else await copyNar(from, part, nar, options);
    await staged.add(path, mayLink ? 0 : nar.sizeBytes);
  }
  await staged.settle();
}

/** Returns true if two folders are on one disk, where a file may have two names. */
async function isSameDisk(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => stat(path).catch(() => undefined)));
  return a !== undefined && a.dev === b?.dev;
}

function placeOf({ name }: SuitcaseNar, { dir }: Pick<FileStore, 'dir'>): string {
  return join(dir, 'nar', name);
}

/** Links a file. @returns false if this disk has no links: then nothing was made */
async function linked(from: string, part: string): Promise<boolean> {
  await onDisk(part, () => rm(part, { force: true }));
  return link(from, part).then(
    () => true,
    () => false, // the copy reports the fault
  );
}

async function hashOf(path: string, { signal, onBytes }: CopyOptions): Promise<FileHash | undefined> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  try {
    await using file = await open(path);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer);
      if (bytesRead === 0) return fileHashOf(hash.digest());
      hash.update(buffer.subarray(0, bytesRead));
      onBytes(bytesRead);
    }
  } catch (error) {
    if (systemCode(error) === 'EIO' || systemCode(error) === 'ENOENT') return undefined; // it is written again
    throw error;
  }
}

/**
 * Returns the size of a regular file. Undefined for anything else: disks that are carried around may have links and
 * pipes.
 */
export function fileSizeOf(path: string): number | undefined {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    return found?.isFile() === true ? found.size : undefined;
  } catch {
    return undefined;
  }
}
