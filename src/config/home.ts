/**
 * Finds the home folder of a user, who may have none: in containers, programs often run as users without an entry in
 * /etc/passwd.
 */
import { lstatSync, mkdirSync, type Stats } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { nameOfUser } from '../nix/programs/system-users.ts';

/** A home folder, or a stand-in for one. */
export interface Home {
  readonly dir: string;
  /** True for a stand-in, which is in the folder for temporary files. */
  readonly isTemporary: boolean;
}

/**
 * Returns HOME, or the home folder that the system knows. If that is missing or `/`, as in many containers, returns a
 * folder below TMPDIR for this user alone. Makes nothing: {@link claimHome} does.
 */
export function homeFolder(env: Readonly<Record<string, string | undefined>> = process.env): Home {
  const home = env['HOME'] ?? homeOfSystem();
  if (home !== undefined && isAbsolute(home) && home !== '/') return { dir: home, isTemporary: false };
  return { dir: join(tmpdir(), `narswarm-${process.getuid?.() ?? 'user'}`), isTemporary: true };
}

/**
 * Makes the stand-in for a home folder, unless it exists. Sets HOME to it. Sets USER if the system does not know this
 * user's name. Nix, git and ssh fail without these variables. Refuses a folder that another user may have made: it
 * could contain code that this program would run.
 *
 * @throws STORE_UNWRITABLE if the folder does not belong to this user alone
 */
export function claimHome(env: Record<string, string | undefined> = process.env): void {
  env['USER'] ??= nameOfUser();
  const { dir, isTemporary } = homeFolder(env);
  if (!isTemporary) return;
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (cause) {
    const found = lstatSync(dir, { throwIfNoEntry: false });
    if (found?.isDirectory() !== true || !isOfUserAlone(found)) throw notOwn(dir, found === undefined, cause);
  }
  env['HOME'] = dir;
}

/** Returns true if a file or folder belongs to this user, and neither its group nor others can write to it. */
export function isOfUserAlone({ uid, mode }: Stats): boolean {
  return uid === process.getuid?.() && (mode & 0o022) === 0;
}

function notOwn(dir: string, isMissing: boolean, cause: unknown): NarswarmError {
  const reason = isMissing ? 'cannot be made' : 'is not a folder of this user alone';
  return new NarswarmError(
    'STORE_UNWRITABLE',
    `this user has no home folder, and ${dir}, which stands in for it, ${reason}: set HOME to a folder of its own`,
    { cause, facts: { path: dir } },
  );
}

/** Returns the home folder that the system knows. Undefined for a user without an entry in /etc/passwd. */
function homeOfSystem(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined;
  }
}
