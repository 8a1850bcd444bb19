/** Explains failures of Nix that come from a lack of access to its daemon. On Debian only members of nix-users may. */
import { accessSync, constants, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { NarswarmError } from '../../errors.ts';
import { daemonSocket } from './daemon-socket.ts';
import { groupName, nameOfUser } from './system-users.ts';

/** Matches Nix's complaint (with `LC_ALL=C`) about its own folders. */
const OWN_FOLDERS = /\/nix\/(?:var|store)\b/;

/**
 * Returns the error of a Nix that could not ask the daemon, since this user may not. Undefined if Nix failed for another reason.
 *
 * @param words the last words of Nix
 */
export function deniedDaemon(words: string, cause: unknown): NarswarmError<'NIX_FAILED'> | undefined {
  if (!words.includes('Permission denied')) return undefined;
  const socket = daemonSocket();
  if (!words.includes(socket) && !OWN_FOLDERS.test(words)) return undefined;
  const folder = dirname(socket);
  if (!isClosed(folder)) return undefined;
  const message = `this user may not talk to the nix-daemon at ${socket}: ${wayOut(folder)}`;
  return new NarswarmError('NIX_FAILED', message, { cause, facts: { isDaemonDenied: true } });
}

/** Returns true if this user cannot enter a folder. */
function isClosed(folder: string): boolean {
  try {
    accessSync(folder, constants.X_OK);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

function wayOut(folder: string): string {
  const gid = statSync(folder, { throwIfNoEntry: false })?.gid ?? 0;
  const group = gid === 0 ? undefined : groupName(gid); // nobody should join root's group
  if (group === undefined) return `as root, let it enter ${folder}`;
  return `run \`adduser ${nameOfUser()} ${group}\` as root, then log in again`;
}
