/** A real Nix daemon for the tests of its clients. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from './lab.ts';
import './test-nix.ts';

/**
 * Starts a daemon with these lines in its nix.conf, until the lab ends.
 *
 * @param store URI of its store. Default: a new one whose store directory is that of this machine
 * @returns the environment of its clients
 */
export async function startNixDaemon(
  lab: Lab,
  settings: readonly string[],
  store?: string,
): Promise<Record<string, string>> {
  const dir = await lab.folder('daemon');
  const socket = join(dir, 'socket');
  await writeFile(join(dir, 'nix.conf'), ['substituters =', 'build-users-group =', ...settings, ''].join('\n'));
  const env = { NIX_CONF_DIR: dir, NIX_DAEMON_SOCKET_PATH: socket, NIX_CONFIG: '', HOME: dir };
  const state = { NIX_STATE_DIR: join(dir, 'var'), NIX_LOG_DIR: join(dir, 'log') };
  await mkdir(join(dir, 'var')); // or it would take itself for the daemon that it is to ask
  const place = store === undefined ? state : { NIX_REMOTE: store };
  const daemon = spawn('nix-daemon', [], { env: { ...lab.env, ...env, ...place }, stdio: 'ignore' });
  lab.use({
    async [Symbol.asyncDispose]() {
      daemon.kill();
    },
  });
  while (!(await isListening(socket))) {
    assert.equal(daemon.exitCode, null, 'nix-daemon ended');
    await sleep(10);
  }
  return { ...env, NIX_REMOTE: 'daemon' };
}

/** Returns true once a socket takes connections: its file exists a moment earlier. */
async function isListening(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
