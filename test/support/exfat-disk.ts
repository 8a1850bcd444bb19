/** A disk as people carry it: exFAT has no links, no colons in names, and does not tell small letters from capitals. */
import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Disk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly dir: string;
  /** False if this machine cannot mount one: then it is a folder, whose users cannot link ({@link Disk.env}). */
  readonly isMounted: boolean;
  /** Variables for processes that use it. */
  readonly env: Readonly<Record<string, string>>;
  /** Removes the disk without a word, as if somebody had pulled it out. */
  readonly pull: () => void;
}

/** Makes every link(2) of a process fail as on such a disk. */
const NO_LINKS = `
const { promises } = require('node:fs');
promises.link = () => Promise.reject(Object.assign(new Error('EPERM: link'), { code: 'EPERM' }));
`;

/**
 * Makes a disk of its own and mounts it, as root with `exfat-fuse` and `exfatprogs`.
 *
 * @param folder an existing folder for the image and the mount
 */
export async function exfatDisk(folder: string, megabytes = 64): Promise<Disk> {
  const image = join(folder, 'disk.img');
  const dir = join(folder, 'disk');
  await mkdir(dir);
  const run = (file: string, ...args: string[]): string | undefined => {
    const { status, stdout } = spawnSync(file, args, { encoding: 'utf8' });
    return status === 0 ? stdout.trim() : undefined;
  };
  run('truncate', '-s', `${megabytes}M`, image);
  const isMade = run('mkfs.exfat', image) !== undefined;
  const device = isMade ? run('losetup', '-f', '--show', image) : undefined;
  const isMounted = device !== undefined && run('mount.exfat-fuse', device, dir) !== undefined;
  const pull = (): void => {
    if (isMounted) run('umount', '-l', dir);
    if (device !== undefined) run('losetup', '-d', device);
  };
  const script = join(folder, 'no-links.cjs');
  await writeFile(script, NO_LINKS);
  const env: Record<string, string> = isMounted ? {} : { NODE_OPTIONS: `--require ${script}` };
  return { dir, isMounted, env, pull, [Symbol.asyncDispose]: async () => pull() };
}
