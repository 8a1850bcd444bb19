/** Runs `nix-store --serve`, which answers questions about a store until it is ended. */
import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../errors.ts';
import type { StoreCallOptions } from './nix-cli.ts';

/** A Nix that answers questions. */
export interface ServeProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Why it gave no answer: the signal's reason, or `NIX_FAILED` with its last words. */
  failure(cause: unknown): unknown;
  /** Ends it and waits until it is gone. */
  end(): Promise<void>;
}

/** Milliseconds that Nix has to end when it is told to. */
const END_MS = 2000;
/** Characters of its last words that are kept. */
const WORDS = 4096;

/** Starts it and waits for nothing; see {@link ServeProcess.failure} for a Nix that is not there. */
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
  child.stdin.on('error', () => undefined); // it has ended, which reading from it tells
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
