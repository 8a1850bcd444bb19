/** Processes that a test looks for. */
import { readdir, readFile } from 'node:fs/promises';

interface Found {
  readonly pid: number;
  readonly name: string;
}

/**
 * Returns the processes with that word in their arguments, and those of their process groups, except for the caller's.
 *
 * @param word for example the store URI of one test
 */
export async function processesOf(word: string): Promise<Found[]> {
  const all = await Promise.all((await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(inspect));
  const alive = all.filter((one) => one !== undefined);
  const own = alive.find(({ pid }) => pid === process.pid)?.group;
  const groups = new Set(alive.filter(({ args }) => args.includes(word)).map(({ group }) => group));
  return alive.filter(({ group }) => groups.has(group) && group !== own).map(({ pid, name }) => ({ pid, name }));
}

/** Returns undefined if it has ended, also if nobody has waited for it. */
async function inspect(pid: string): Promise<(Found & { group: number; args: readonly string[] }) | undefined> {
  try {
    const [stat, args] = await Promise.all(['stat', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8')));
    const [, name = '', state, group] = /^\d+ \((.*)\) (\S) \d+ (\d+)/s.exec(stat ?? '') ?? [];
    if (state === undefined || 'ZX'.includes(state)) return undefined;
    return { pid: Number(pid), name, group: Number(group), args: (args ?? '').split('\0') };
  } catch {
    return undefined;
  }
}
