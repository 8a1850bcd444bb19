/** Replaces the config file, whole or not at all. */
import type { Stats } from 'node:fs';
import { open, readFile, realpath, rename, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import { systemCode } from '../disk/store-error.ts';

const READ_ONLY = new Set(['EROFS', 'EACCES', 'EPERM']);

/** Age from which a lock counts as left behind by an ended process. An edit takes milliseconds. */
const STALE_MS = 10_000;
const WAIT_MS = 20;

/**
 * Applies an edit to a config file; makes the file if it does not exist. Keeps a symlink: replaces the file behind it,
 * with the same mode and, if possible, the same owner. Two edits at once come one after the other. If a person changes
 * the file meanwhile, edits the new text.
 *
 * @throws USAGE if the file cannot be changed; errors of `edit`
 */
export async function editConfigFile(path: string, edit: (text: string) => string): Promise<void> {
  try {
    const target = await behind(path);
    const old = await statOf(target);
    // A regular file would replace it: /dev/null must not be lost.
    if (old !== undefined && !old.isFile()) throw notAFile(path);
    // Root may write to a read-only file, but must not change a file that NixOS made.
    if (old !== undefined && (old.mode & 0o222) === 0) throw readOnly(path);
    await makeFolder(dirname(target));
    await replace(target, edit);
  } catch (cause) {
    const code = systemCode(cause);
    if (code === undefined || isNarswarmError(cause)) throw cause;
    if (READ_ONLY.has(code)) throw readOnly(path, cause);
    const message = `cannot write the config file ${path} (${code}): correct that, or name another one with --config`;
    throw new NarswarmError('USAGE', message, { cause, facts: { file: path } });
  }
}

/** Writes the new text to the lock, which then replaces the file. */
async function replace(target: string, edit: (text: string) => string): Promise<void> {
  const lock = `${target}.lock`;
  await using file = await take(lock);
  const { ino } = await file.stat();
  const isOurs = async (): Promise<boolean> => (await statOf(lock))?.ino === ino;
  try {
    for (;;) {
      const before = await textOf(target);
      const after = edit(before ?? '');
      await file.truncate();
      await file.write(after, 0);
      await copyRights(file, await statOf(target));
      await file.sync();
      if ((await textOf(target)) === before) break;
    }
    if (!(await isOurs()))
      throw new NarswarmError('USAGE', `another process changed ${target}: run the same command again`);
    await rename(lock, target);
  } catch (error) {
    if (await isOurs()) await unlink(lock);
    throw error;
  }
}

async function take(lock: string): Promise<FileHandle> {
  for (;;) {
    try {
      return await open(lock, 'wx', 0o644);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
      const held = await statOf(lock);
      // A file of later than now is of before somebody set the clock.
      if (held !== undefined && Math.abs(Date.now() - held.mtimeMs) > STALE_MS)
        await unlink(lock).catch(() => undefined);
      else await setTimeout(WAIT_MS);
    }
  }
}

async function copyRights(file: FileHandle, old: Stats | undefined): Promise<void> {
  if (old === undefined) return;
  await file.chown(old.uid, old.gid).catch(() => undefined);
  await file.chmod(old.mode & 0o7777);
}

async function statOf(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  });
}

async function textOf(target: string): Promise<string | undefined> {
  return readFile(target, 'utf8').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  });
}

/** Returns the file that a symlink leads to, or the path itself. */
async function behind(path: string): Promise<string> {
  return realpath(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return resolve(path);
    throw error;
  });
}

function readOnly(path: string, cause?: unknown): NarswarmError {
  return new NarswarmError(
    'USAGE',
    `${path} is read-only: if NixOS made it, declare the subscription in services.narswarm.subscriptions; otherwise make it writable, or name another one with --config`,
    { ...(cause === undefined ? {} : { cause }), facts: { file: path } },
  );
}

function notAFile(path: string): NarswarmError {
  const message = `${path} is not a file for subscriptions: name another one with --config or NARSWARM_CONFIG`;
  return new NarswarmError('USAGE', message, { facts: { file: path } });
}
