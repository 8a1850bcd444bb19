/** The home folder of a user, who may have none: containers start programs as users that /etc/passwd does not know. */
import { lstatSync, mkdirSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { nameOfUser } from '../nix/system-users.ts';

/** A home folder, and whether it is one of the system's or a stand-in. */
export interface Home {
  readonly dir: string;
  /** True if there is no home folder: the stand-in is in the folder for temporary files. */
  readonly isTemporary: boolean;
}

/**
 * HOME, else what the system knows; where that is nothing or `/`, as in many containers, a folder of this user's alone
 * below TMPDIR. Makes nothing: {@link claimHome} does.
 */
export function homeFolder(env: Readonly<Record<string, string | undefined>> = process.env): Home {
  const home = env['HOME'] ?? homeOfSystem();
  if (home !== undefined && isAbsolute(home) && home !== '/') return { dir: home, isTemporary: false };
  return { dir: join(tmpdir(), `narswarm-${process.getuid?.() ?? 'user'}`), isTemporary: true };
}

/**
 * Makes the stand-in for a home folder, unless it is there, and names it in HOME, and this user in USER where nobody knows
 * the name: Nix, git and ssh end without them. In a folder that others write to somebody else may have made the stand-in,
 * with code for this program to run.
 *
 * @throws STORE_UNWRITABLE where it is not this user's alone
 */
export function claimHome(env: Record<string, string | undefined> = process.env): void {
  env['USER'] ??= nameOfUser();
  const { dir, isTemporary } = homeFolder(env);
  if (!isTemporary) return;
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (cause) {
    const found = lstatSync(dir, { throwIfNoEntry: false });
    const isOwn = found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
    if (!isOwn) throw notOwn(dir, found === undefined, cause);
  }
  env['HOME'] = dir;
}

function notOwn(dir: string, isMissing: boolean, cause: unknown): NarswarmError {
  const reason = isMissing ? 'cannot be made' : 'is not a folder of this user alone';
  return new NarswarmError(
    'STORE_UNWRITABLE',
    `this user has no home folder, and ${dir}, which stands in for it, ${reason}: set HOME to a folder of its own`,
    { cause, facts: { path: dir } },
  );
}

/** Undefined for a user without an entry in /etc/passwd. */
function homeOfSystem(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined;
  }
}
