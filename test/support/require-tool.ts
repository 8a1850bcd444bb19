/** Programs that `npm test` installs (tools.ts). Without them a test fails, and names the package to install. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

/** For `before`: fails unless a command line runs. The message names its package in Debian. */
export function requireTool(packageName: string, command: string, ...args: readonly string[]): () => void {
  return () => {
    const { status, error } = spawnSync(command, args, { stdio: 'ignore' });
    assert.ok(
      status === 0,
      `${command} does not run (${error?.message ?? `status ${status}`}): install ${packageName}`,
    );
  };
}
