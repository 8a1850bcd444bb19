/** The garbage collector of the real Nix. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import './test-nix.ts';

/** Makes a folder with `nix-collect-garbage`, which one program of Nix is under each of its names. */
async function collector(lab: Lab): Promise<string> {
  const bin = await lab.folder('collector');
  await symlink(programOf('nix'), join(bin, 'nix-collect-garbage'));
  return join(bin, 'nix-collect-garbage');
}

/** Runs `nix-collect-garbage` in a store. */
export async function collectGarbageOf(lab: Lab, store: string): Promise<void> {
  const { status, stderr } = spawnSync(await collector(lab), [], {
    env: { ...lab.env, NIX_REMOTE: store },
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
}

/** Returns true if a path is valid in a store. */
export function isValidIn(store: string, path: string): boolean {
  return spawnSync('nix-store', ['--store', store, '--check-validity', path], { stdio: 'ignore' }).status === 0;
}

/**
 * Makes a `nix` that collects garbage whenever it has copied, which is the worst moment: nothing runs that keeps the paths.
 *
 * @param then a line of shell to run after that, such as one that kills the process that has asked
 * @returns the environment with it
 */
export async function collectingNix(lab: Lab, store: string, then = ''): Promise<Record<string, string>> {
  const bin = await lab.folder('bin');
  const script = `#!/bin/sh
'${programOf('nix')}' "$@"
status=$?
case " $* " in
  *' copy '*) NIX_REMOTE='${store}' '${await collector(lab)}' >/dev/null 2>&1; ${then} ;;
esac
exit $status
`;
  await writeFile(join(bin, 'nix'), script);
  await chmod(join(bin, 'nix'), 0o755);
  return { PATH: `${bin}:${process.env['PATH'] ?? ''}` };
}

function programOf(name: string): string {
  return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
}
