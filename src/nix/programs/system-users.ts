/** Users and groups of this system. In containers, programs often run as users without an entry in /etc/passwd. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';

/** A line of group(5). */
export interface Group {
  readonly name: string;
  readonly id: string;
  readonly members: readonly string[];
}

/** Returns the user's name, or the number of a user without an entry in /etc/passwd. */
export function nameOfUser(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}

/** Reads the groups of this machine. Returns none if the file cannot be read. */
export async function readGroups(file = '/etc/group'): Promise<Group[]> {
  return parseGroups(await readFile(file, 'utf8').catch(() => ''));
}

/** Returns the name of a group. Undefined if it has none, or if the file cannot be read. */
export function groupName(gid: number, file = '/etc/group'): string | undefined {
  try {
    return parseGroups(readFileSync(file, 'utf8')).find(({ id }) => id === String(gid))?.name;
  } catch {
    return undefined;
  }
}

function parseGroups(text: string): Group[] {
  return text.split('\n').map((line) => {
    const [name = '', , id = '', members = ''] = line.split(':');
    return { name, id, members: members.split(',') };
  });
}
