/** Facts about this machine for systemd units: where the program is, which programs it calls, who may talk to Nix. */
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { readGroups } from '../nix/programs/system-users.ts';

/** Folders that the system's units do not see (ProtectHome, PrivateTmp), unless a part is bound into their view. */
const HIDDEN = /^\/(?:home|root|run\/user|tmp|var\/tmp)(?=\/)/;
/** Folder that npm may empty at any time. */
const NPX_CACHE = /\/_npx\/[^/]+\//;
/** Folder of the Nix daemon's socket. On Debian (nix-setup-systemd) only this group can enter it. */
const DAEMON_SOCKET = '/nix/var/nix/daemon-socket';
const DEBIAN_GROUP = 'nix-users';
/**
 * Programs that narswarm calls. Flakes in a git tree need git, `ssh-ng://` stores need ssh, the daemon’s unit needs the
 * last one.
 */
const TOOLS = ['nix', 'git', 'ssh', 'systemd-notify'] as const;

/** The place of the program, for units. */
export interface Installation {
  /** Node with its options, then the program: absolute paths without links. */
  readonly program: readonly string[];
  /** Folders and files of it that must be bound into the view of the system's units. */
  readonly hidden: readonly string[];
}

/**
 * Finds the running program.
 *
 * @param options.isSystem true for units of the system, which run as their own user
 * @throws USAGE, with the way out, if the units could not start the program, or soon could not
 */
export function findInstallation(options: {
  readonly node: string;
  readonly script: string;
  readonly isSystem: boolean;
}): Installation {
  const node = realpathSync(options.node);
  const script = realpathSync(options.script);
  const files = [node, script];
  const passing = files.find((file) => NPX_CACHE.test(file));
  if (passing !== undefined) throw refuse(`${passing} is in npm’s cache, which may be emptied at any time`);
  const root = rootOf(script);
  // Without this flag, Node opens a debugger at SIGUSR1 until the program handles the signal.
  const program = [node, '--disable-sigusr1', script];
  if (!options.isSystem) return { program, hidden: [] };
  const hidden = [root, ...(node.startsWith(`${root}/`) ? [] : [node])].filter(isHidden);
  for (const file of [...files, root]) {
    const closed = closedPart(file, hidden.find((place) => `${file}/`.startsWith(`${place}/`)) ?? '/');
    if (closed !== undefined)
      throw refuse(`${closed} can be read by its owner alone, and the units run as a user of their own`);
    if (file.includes(':')) throw refuse(`${file} has a colon in its name`);
  }
  return { program, hidden };
}

/** Returns true for paths that the system's units do not see. */
export function isHidden(path: string): boolean {
  return HIDDEN.test(path);
}

/** Returns the folders of PATH with the programs that narswarm calls, and the missing programs. */
export function findTools(path: string): { readonly folders: readonly string[]; readonly missing: readonly string[] } {
  const folders = new Set<string>();
  const missing: string[] = [];
  for (const tool of TOOLS) {
    const folder = path.split(delimiter).find((dir) => dir.startsWith('/') && isExecutable(join(dir, tool)));
    if (folder === undefined) missing.push(tool);
    else folders.add(folder);
  }
  return { folders: [...folders], missing };
}

/**
 * Returns the group that a service needs to reach the Nix daemon. Undefined if everybody may reach it, or if there is
 * none.
 *
 * @param socketDir folder of the daemon's socket
 * @param groupFile in the format of group(5)
 */
export async function findNixGroup(socketDir = DAEMON_SOCKET, groupFile = '/etc/group'): Promise<string | undefined> {
  const groups = await readGroups(groupFile);
  const found = statSync(socketDir, { throwIfNoEntry: false });
  // Before the daemon's first start the folder does not exist; Debian makes the group during installation.
  if (found === undefined) return groups.find(({ name }) => name === DEBIAN_GROUP)?.name;
  if ((found.mode & 0o001) !== 0) return undefined;
  return groups.find(({ id }) => id === String(found.gid))?.name;
}

/** Returns the folder of a script's package: the nearest one with a package.json. */
function rootOf(script: string): string {
  for (let dir = dirname(script); dir !== '/'; dir = dirname(dir)) {
    if (statSync(join(dir, 'package.json'), { throwIfNoEntry: false }) !== undefined) return dir;
  }
  return dirname(script);
}

/** Returns the first part of a path, below a folder, that only its owner can enter. */
function closedPart(path: string, from: string): string | undefined {
  const parts = path
    .slice(from.length)
    .split('/')
    .filter((part) => part !== '');
  for (let count = 0; count <= parts.length; count++) {
    const part = join(from, ...parts.slice(0, count));
    const found = statSync(part);
    if ((found.mode & (found.isDirectory() ? 0o001 : 0o004)) === 0) return part;
  }
  return undefined;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function refuse(reason: string): NarswarmError {
  return new NarswarmError(
    'USAGE',
    `the units could not start this program, ${reason}: copy the checkout to /opt/narswarm (after npm ci) and run node_modules/.bin/node dist/main.js service there`,
  );
}
