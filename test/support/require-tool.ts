/** Programs that `npm test` sees to (tools.ts): without them a test fails, and says what to install. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

/** For `before`: fails unless a command line runs, and names the package of Debian that has it. */
export function requireTool(packageName: string, command: string, ...args: readonly string[]): () => void {
  return () => {
    const { status, error } = spawnSync(command, args, { stdio: 'ignore' });
    assert.ok(
      status === 0,
      `${command} does not run (${error?.message ?? `status ${status}`}): install ${packageName}`,
    );
  };
}
