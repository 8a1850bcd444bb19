/** Runs `nix-store --serve`, which answers queries about a store until it is ended. */
import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../errors.ts';
import type { StoreCallOptions } from './run-nix.ts';

/** A Nix process that answers queries. */
export interface ServeProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Returns the reason of a missing answer: the signal's reason, or `NIX_FAILED` with Nix's last words. */
  failure(cause: unknown): unknown;
  /** Ends the process and waits for its exit. */
  end(): Promise<void>;
}

/** Time for Nix to end after it is told to, in milliseconds. */
const END_MS = 2000;
/** Limit on the kept end of stderr, in characters. */
const WORDS = 4096;

/** Starts Nix without waiting for it. If Nix is not there, {@link ServeProcess.failure} says so. */
export function startServe({ store, signal }: StoreCallOptions): ServeProcess {
  const args = ['--serve', ...(store === undefined ? [] : ['--store', store])];
  const child = spawn('nix-store', args, { env: { ...process.env, LC_ALL: 'C', NO_COLOR: '1' } });
  let words = '';
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      words ||= error.message;
      resolve();
    });
  });
  child.stdin.on('error', () => undefined); // Nix has ended: the reader of its output notices
  child.stderr.setEncoding('utf8').on('data', (text: string) => (words = (words + text).slice(-WORDS)));
  const stop = (): void => void child.kill();
  signal?.addEventListener('abort', stop, { once: true });
  return {
    stdin: child.stdin,
    stdout: child.stdout,
    failure(cause) {
      if (signal?.aborted === true) return signal.reason;
      const reason = words.trim() || (cause instanceof Error ? cause.message : String(cause));
      return new NarswarmError('NIX_FAILED', `nix-store --serve failed: ${reason}`, { cause });
    },
    async end() {
      signal?.removeEventListener('abort', stop);
      stop();
      const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
      await gone;
      clearTimeout(timer);
    },
  };
}
