import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './lab.ts';

/**
 * Puts a program in the place of sync(1) that runs a shell command before a folder is synced for the `at`-th time, such
 * as `kill -9 $PPID`.
 *
 * @returns the variables with which a process finds it
 */
export async function fakeSync(
  lab: Lab,
  what: string,
): Promise<(folder: string, at: number) => Record<string, string>> {
  const bin = await lab.folder('bin');
  const count = join(bin, 'count-$AT');
  const counted = `echo x >>${count}; [ "$(wc -l <${count})" -ne "$AT" ] || ${what};`;
  await writeFile(join(bin, 'sync'), `#!/bin/sh\n[ "$2" != "$SYNCED" ] || { ${counted} }\nexec /usr/bin/sync "$@"\n`);
  await chmod(join(bin, 'sync'), 0o755);
  const PATH = `${bin}:${lab.env['PATH'] ?? ''}`;
  return (folder, at) => ({ PATH, SYNCED: folder, AT: String(at) });
}
