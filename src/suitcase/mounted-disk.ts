import { readFile, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { NarswarmError } from '../errors.ts';
import type { Warn } from '../warning.ts';

/** Files in which this machine lists its mount points. */
export interface MountLists {
  readonly fstab: string;
  /** Folders with units of systemd, which has the mounts of NixOS and of desktops there. */
  readonly unitFolders: readonly string[];
  /** The present mounts (proc(5)). */
  readonly mountInfo: string;
  /** Folders below which disks are mounted, whether or not a list names them. */
  readonly mediaFolders: readonly string[];
}

const LISTS: MountLists = {
  fstab: '/etc/fstab',
  unitFolders: ['/etc/systemd/system', '/run/systemd/system', '/run/systemd/generator'],
  mountInfo: '/proc/self/mountinfo',
  mediaFolders: ['/media', '/run/media', '/mnt'],
};

/**
 * Checks that a disk is mounted where a folder on a disk is named: otherwise the files would go to the disk of the system, and
 * the carried disk would stay empty. Warns if the folder was used without a disk before, or if nothing tells whether a
 * disk belongs there.
 *
 * @throws STORE_UNWRITABLE if nothing is mounted on a mount point on the way to it, which is empty or missing
 */
export async function assertMounted(dir: string, warn: Warn, lists = LISTS): Promise<void> {
  const target = await realPlace(resolve(dir));
  const mounted = new Set(parseMountInfo(await textOf(lists.mountInfo)));
  const isOver = (place: string): boolean => target === place || target.startsWith(`${place}/`);
  const over = [...mounted].filter((place) => place === '/' || isOver(place)).toSorted(byLength);
  const disk = over.at(-1) ?? '/';
  const listed = await listedMountPoints(lists);
  const missed = (await Promise.all(listed.map(realPlace))).filter((place) => isOver(place) && !mounted.has(place));
  const [mountPoint] = missed.filter((place) => place.length > disk.length).toSorted(byLength);
  if (mountPoint !== undefined) {
    if (await isEmpty(mountPoint))
      throw refuse(dir, `nothing is mounted on ${mountPoint}: mount it (mount ${mountPoint}), or name another folder`);
    warn({ kind: 'nothing-mounted', dir, disk });
    return;
  }
  const media = lists.mediaFolders.find((folder) => isOver(folder) && disk.length <= folder.length);
  if (media === undefined) return;
  const parent = dirname(target) === media ? target : dirname(target);
  if ((await namesIn(parent)) === undefined)
    throw refuse(dir, `there is no folder ${parent}: mount the disk, or make the folder if ${dir} is right`);
  warn({ kind: 'nothing-mounted', dir, disk });
}

function refuse(path: string, message: string): NarswarmError {
  return new NarswarmError('STORE_UNWRITABLE', message, { facts: { path } });
}

/** Returns where a place is, whatever links lead there. It need not exist. */
async function realPlace(path: string): Promise<string> {
  const found = await realpath(path).catch(() => undefined);
  if (found !== undefined || path === dirname(path)) return found ?? path;
  return join(await realPlace(dirname(path)), basename(path));
}

async function listedMountPoints({ fstab, unitFolders }: MountLists): Promise<string[]> {
  const units = await Promise.all(unitFolders.map(async (folder) => (await namesIn(folder)) ?? []));
  return [...parseFstab(await textOf(fstab)), ...units.flat().flatMap(mountPointOfUnit)];
}

/** Returns the mount points of an fstab(5). */
function parseFstab(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [device = '#', place = ''] = line.trim().split(/\s+/);
    return device.startsWith('#') || !place.startsWith('/') ? [] : [unescaped(place)];
  });
}

/** Returns the mount points of /proc/self/mountinfo. */
function parseMountInfo(text: string): string[] {
  return text.split('\n').flatMap((line) => unescaped(line.split(' ')[4] ?? '') || []);
}

/** Returns the mount point of a unit, whose name has to be the escaped path (systemd.mount(5)). */
function mountPointOfUnit(name: string): string[] {
  if (!name.endsWith('.mount') || name.startsWith('-')) return [];
  const path = name.slice(0, -'.mount'.length).replaceAll('-', '/');
  return [`/${path.replaceAll(/\\x([0-9a-f]{2})/g, (_, code: string) => String.fromCharCode(parseInt(code, 16)))}`];
}

/** Decodes spaces and others, which both files have as octal numbers. */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(parseInt(code, 8)));
}

async function isEmpty(folder: string): Promise<boolean> {
  return ((await namesIn(folder)) ?? []).length === 0;
}

/** Undefined if there is no such folder, or if it cannot be read. */
async function namesIn(folder: string): Promise<readonly string[] | undefined> {
  return readdir(folder).catch(() => undefined);
}

async function textOf(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(() => '');
}

function byLength(one: string, other: string): number {
  return one.length - other.length;
}
