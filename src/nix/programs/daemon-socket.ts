/** Connects to the running Nix daemon, as Nix does (Nix: src/libstore/uds-remote-store.cc). */
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { NarswarmError } from '../../errors.ts';
import type { CallOptions } from './run-nix.ts';
import type { ServeProcess } from './serve-process.ts';

/** Place of the socket in Nix's state folder. */
const SOCKET = 'daemon-socket/socket';
const STATE_DIR = '/nix/var/nix';

/** Returns the socket of a daemon. @param url as Nix describes its store: `daemon`, or `unix://` with or without a path */
export function daemonSocket(url = 'daemon'): string {
  const [, path = ''] = /^unix:(?:\/\/)?([^?]*)/.exec(url) ?? [];
  const { NIX_DAEMON_SOCKET_PATH, NIX_STATE_DIR = STATE_DIR } = process.env;
  return path || NIX_DAEMON_SOCKET_PATH || join(NIX_STATE_DIR, SOCKET);
}

/** Opens a connection without waiting for it. If there is no daemon, {@link ServeProcess.failure} says so. */
export function connectDaemon(socket: string, { signal }: CallOptions): ServeProcess {
  const connection = connect(socket);
  let reason = 'it has ended the connection';
  connection.on('error', (error) => (reason = error.message));
  const closed = once(connection, 'close').catch(() => undefined);
  const stop = (): void => void connection.destroy();
  signal?.addEventListener('abort', stop, { once: true });
  return {
    stdin: connection,
    stdout: connection,
    failure: async (cause) =>
      signal?.aborted === true
        ? signal.reason
        : new NarswarmError('NIX_FAILED', `the nix-daemon at ${socket} failed: ${reason}`, { cause }),
    async end() {
      signal?.removeEventListener('abort', stop);
      stop();
      await closed;
    },
  };
}
