import { randomBytes } from 'node:crypto';
import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Makes a unique name for a folder or file of this process: `<machine>-<boot>-<pid namespace>-<pid>-<start time>` and
 * random digits, since a process may want several. A later process with the same pid gets another name.
 */
export async function ownName(): Promise<string> {
  return `${await runningMachine()}-${process.pid}-${(await startTimeOf(process.pid)) ?? '0'}-${randomBytes(6).toString('hex')}`;
}

/**
 * Returns the state of the process that made a name with {@link ownName}. `gone`: it certainly no longer runs.
 * `unknown`: it belongs to another machine or container that shares the folder.
 */
export async function stateOfOwner(name: string): Promise<'alive' | 'gone' | 'unknown'> {
  const [id, boot, namespace, pid, start] = name.split('-');
  const [ownId, ownBoot, ownNamespace] = (await runningMachine()).split('-');
  if (id === undefined || boot === undefined || namespace === undefined || pid === undefined || start === undefined)
    return 'unknown';
  if (id !== ownId) return 'unknown'; // two machines may share a store over the network
  if (boot !== ownBoot) return 'gone';
  if (namespace !== ownNamespace) return 'unknown';
  return (await startTimeOf(Number(pid))) === start ? 'alive' : 'gone';
}

/** Removes what ended processes have left in a folder, by names of {@link ownName}. */
export async function removeLeft(dir: string): Promise<void> {
  for (const name of await readdir(dir).catch(() => []))
    if ((await stateOfOwner(name)) === 'gone') await rm(join(dir, name), { recursive: true, force: true });
}

/** Returns a name for files that a running process leaves to the next one: its owner counts as gone. */
export function endedName(name: string): string {
  const [id, boot, namespace, pid, , digits] = name.split('-');
  return [id, boot, namespace, pid, 'ended', digits].join('-');
}

/** Returns the machine in a name of {@link ownName}. */
export function machineOf(owner: string): string {
  return owner.slice(0, owner.indexOf('-'));
}

/** Returns the process number in a name of {@link ownName}. */
export function pidOfOwner(name: string): string {
  return name.split('-')[3] ?? '?';
}

/** Names this machine, as long as it runs, and the container that this process is in: `<machine>-<boot>-<pid namespace>`. */
export async function runningMachine(): Promise<string> {
  const id = await readFile('/etc/machine-id', 'utf8').catch(() => 'unknown');
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  return [id.trim() || 'unknown', boot.trim().replaceAll('-', ''), namespace.replaceAll(/\D/g, '') || '0'].join('-');
}

/**
 * Returns the clock ticks after boot at which a process started (proc(5), field 22 of stat). Undefined if it is gone, or a
 * zombie: where nobody waits for ended processes, as in many containers, those stay for good. A killed process may
 * show as a zombie while one of its threads still writes to a slow disk; it runs until that thread has ended, too.
 */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTime] = [fields[0], Number(fields[17]), fields[19]];
  return (state === 'Z' || state === 'X') && threads <= 1 ? undefined : startTime;
}
