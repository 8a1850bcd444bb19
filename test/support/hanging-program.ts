/** Programs that a process starts and that hang. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './lab.ts';

export interface HangingProgram {
  /** Environment of a process that will start it. */
  readonly env: Record<string, string>;
  /** The process that hangs, or undefined while there is none. */
  readonly pid: () => Promise<number | undefined>;
  /** Lets the hanging process continue as the real program. */
  readonly release: () => Promise<void>;
}

/**
 * A program of that name at the front of PATH, which hangs until it is released or ended.
 *
 * @param word hangs only if this is among its arguments; otherwise becomes the real program at once
 */
export async function hangingProgram(lab: Lab, name: string, word = ''): Promise<HangingProgram> {
  const dir = await lab.folder('bin');
  const file = join(dir, name);
  const fifo = join(dir, 'go-on');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const script = `#!/bin/sh
case " $* " in
*" ${word}"*) echo $$ >${dir}/new; mv ${dir}/new ${dir}/pid; read -r _ <${fifo} ;;
esac
PATH=\${PATH#*:} exec ${name} "$@"
`;
  await writeFile(file, script);
  await chmod(file, 0o755);
  let isReleased = false;
  const pid = async (): Promise<number | undefined> =>
    (await readdir(dir)).includes('pid') ? Number(await readFile(join(dir, 'pid'), 'utf8')) : undefined;
  lab.use({
    async [Symbol.asyncDispose]() {
      const left = isReleased ? undefined : await pid();
      if (left !== undefined && isRunning(left)) process.kill(left); // its parent was killed
    },
  });
  return {
    env: { PATH: `${dir}:${process.env['PATH'] ?? ''}` },
    pid,
    async release() {
      isReleased = true;
      await writeFile(fifo, '\n');
    },
  };
}

/** Returns true if a process with that pid exists. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
