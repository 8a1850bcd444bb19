/** Facts of this machine for systemd units: where the program is, what it calls, who may talk to Nix. */
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { readGroups } from '../nix/system-users.ts';

/** Folders that the system's units do not see (ProtectHome, PrivateTmp), unless a part of them is bound into their view. */
const HIDDEN = /^\/(?:home|root|run\/user|tmp|var\/tmp)(?=\/)/;
/** Emptied by npm whenever it likes. */
const NPX_CACHE = /\/_npx\/[^/]+\//;
/** Nix opens the folder of its daemon's socket to one group on Debian (nix-setup-systemd). */
const DAEMON_SOCKET = '/nix/var/nix/daemon-socket';
const DEBIAN_GROUP = 'nix-users';
/** Without git no flake in a git tree can be evaluated, without ssh no `ssh-ng://` store be reached. */
const TOOLS = ['nix', 'git', 'ssh'] as const;

/** Where the program is, as units have it. */
export interface Installation {
  /** Node with its options, then the program: absolute paths without links. */
  readonly program: readonly string[];
  /** Folders and files of it that the system's units see only where they are bound into their view. */
  readonly hidden: readonly string[];
}

/**
 * Finds the program that runs now.
 *
 * @param options.isSystem whether the units are the system's, which run as a user of their own
 * @throws USAGE, with the way out, where they could not start it now or next week
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
  // Node opens a debugger at SIGUSR1 until the program has begun to listen.
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

/** True for what the system's units do not see. */
export function isHidden(path: string): boolean {
  return HIDDEN.test(path);
}

/** The folders of PATH in which the programs are that narswarm calls, and those of them that are nowhere. */
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
 * The group that a service has to be in to reach the Nix daemon; undefined if everybody may, or there is none.
 *
 * @param socketDir folder of the daemon's socket
 * @param groupFile in the format of group(5)
 */
export async function findNixGroup(socketDir = DAEMON_SOCKET, groupFile = '/etc/group'): Promise<string | undefined> {
  const groups = await readGroups(groupFile);
  const found = statSync(socketDir, { throwIfNoEntry: false });
  // Before the daemon's first start there is no folder; Debian makes the group when it is installed.
  if (found === undefined) return groups.find(({ name }) => name === DEBIAN_GROUP)?.name;
  if ((found.mode & 0o001) !== 0) return undefined;
  return groups.find(({ id }) => id === String(found.gid))?.name;
}

/** The folder of a package that a script is of: the nearest with a package.json. */
function rootOf(script: string): string {
  for (let dir = dirname(script); dir !== '/'; dir = dirname(dir)) {
    if (statSync(join(dir, 'package.json'), { throwIfNoEntry: false }) !== undefined) return dir;
  }
  return dirname(script);
}

/** The first part of a path, from a folder on, that others than its owner cannot look into. */
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
