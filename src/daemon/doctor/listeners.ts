/** Finds the processes that listen on ports of this machine, in /proc (proc_pid_net(5)). */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { resolve } from 'node:path';

export interface Listener {
  /** Undefined for a process of another user, which only root sees. */
  readonly pid: number | undefined;
  /** Its command line, shortened. */
  readonly command: string | undefined;
  /** The command of narswarm that it runs, such as `publish`. Undefined for another program. */
  readonly work: string | undefined;
}

const TCP_LISTEN = '0A';
const LONGEST_COMMAND = 80;

/** Returns the inodes of sockets that listen on a port, from the text of /proc/net/tcp or udp: pure. */
export function listeningInodes(text: string, protocol: 'tcp' | 'udp', port: number): string[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      const isPort = Number.parseInt(local.split(':')[1] ?? '', 16) === port;
      return isPort && inode !== undefined && (protocol === 'udp' || state === TCP_LISTEN) ? [inode] : [];
    });
}

/** Returns the process that listens on a port. Undefined if there is none. */
export async function listenerOf(protocol: 'tcp' | 'udp', port: number): Promise<Listener | undefined> {
  const tables = await Promise.all(
    [protocol, `${protocol}6`].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')),
  );
  const inodes = new Set(tables.flatMap((text) => listeningInodes(text, protocol, port)));
  if (inodes.size === 0) return undefined;
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    for (const fd of await readdir(`/proc/${name}/fd`).catch(() => [])) {
      const link = await readlink(`/proc/${name}/fd/${fd}`).catch(() => '');
      const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
      if (inode === undefined || !inodes.has(inode)) continue;
      const words = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).split('\0').filter(Boolean);
      const cwd = await readlink(`/proc/${name}/cwd`).catch(() => '/');
      return { pid: Number(name), command: words.join(' ').slice(0, LONGEST_COMMAND).trim(), work: workOf(words, cwd) };
    }
  }
  return { pid: undefined, command: undefined, work: undefined };
}

/**
 * Returns the command of narswarm in the words of a command line. Undefined for another program: pure.
 *
 * @param cwd the folder of the process
 * @param ownProgram the path of the running program, which may have any name
 */
export function workOf(words: readonly string[], cwd: string, ownProgram = process.argv[1]): string | undefined {
  const program = words
    .slice(0, 3)
    .findIndex((word) => /(?:^|[/-])narswarm(?:$|[/-])/.test(word) || resolve(cwd, word) === ownProgram);
  return program === -1 ? undefined : words.slice(program + 1).find((word) => !word.startsWith('-'));
}
