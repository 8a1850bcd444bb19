/** Runs a program of Nix that answers over its stdin and stdout until it is ended. */
import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../../errors.ts';
import { deniedDaemon } from './daemon-access.ts';
import { withinMs } from '../../within.ts';
import { storeArgs, type CallOptions, type StoreCallOptions } from './run-nix.ts';
import { encodeNumber, type WireReader } from './wire-format.ts';

const HELLO = 0x39_0c_9d_eb;
const HELLO_BACK = 0x54_52_ee_cb;
/** The first protocol version with hash, content address and signatures in path infos (Nix 2.0). */
const VERSION = 0x2_04;

/** A Nix process that answers queries. */
export interface ServeProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Returns the reason of a missing answer: the signal's reason, or `NIX_FAILED` with Nix's last words. */
  failure(cause: unknown): Promise<unknown>;
  /** Ends the process and waits for its exit. */
  end(): Promise<void>;
}

/**
 * Time for Nix to end after the end of its input, in milliseconds. A signal while it creates a store leaves an empty file,
 * and then no Nix opens that store again.
 */
const END_MS = 2000;
/** The same after SIGTERM. */
const KILL_MS = 2000;
/** Time for the last words of a Nix that no longer answers, in milliseconds. They may come after its last answer. */
const WORDS_MS = 1000;
/** Limit on the kept end of stderr, in characters. */
const WORDS = 4096;

/** Starts `nix-store --serve` as {@link startAnswering} does. It answers queries about a store. */
export function startServe(options: StoreCallOptions): ServeProcess {
  return startAnswering('nix-store --serve', ['nix-store', '--serve', ...storeArgs(options)], options);
}

/**
 * Starts `nix-daemon --stdio` as {@link startAnswering} does. It works on the store itself, or passes on to the running
 * daemon. For that it needs pipes, while Node has sockets. Its end ends the pipeline, which is a process group of its own.
 */
export function startWorker(options: StoreCallOptions): ServeProcess {
  const piped = [
    '/bin/sh',
    '-c',
    'cat | { nix-daemon "$@"; kill 0; } | cat',
    'nix-daemon',
    '--stdio',
    ...storeArgs(options),
  ];
  return startAnswering('nix-daemon --stdio', piped, options);
}

/** Starts a program without waiting for it. If Nix is not there, {@link ServeProcess.failure} says so. */
function startAnswering(name: string, command: readonly string[], { signal }: CallOptions): ServeProcess {
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    env: { ...process.env, LC_ALL: 'C', NO_COLOR: '1' },
    detached: true, // Ctrl-C reaches only the processes of the terminal's group: this one ends Nix in good order
  });
  let words = '';
  let isGone = false;
  const { promise: gone, resolve: setGone } = Promise.withResolvers<void>();
  const hasSpoken = new Promise<void>((resolve) => {
    child.stderr.once('close', () => resolve());
  });
  child.once('error', (error) => {
    words ||= error.message;
    isGone = true;
    setGone();
  });
  child.once('exit', async () => {
    await hasSpoken; // the shell of a pipeline may exit before its Nix, which has the same stderr
    isGone = true;
    setGone();
  });
  child.stdin.on('error', () => undefined); // Nix has ended: the reader of its output notices
  child.stderr.setEncoding('utf8').on('data', (text: string) => (words = (words + text).slice(-WORDS)));
  const kill = (ending: NodeJS.Signals): void => {
    if (child.pid === undefined || isGone) return;
    try {
      process.kill(-child.pid, ending); // the processes of a pipeline, too
    } catch {
      // none is left
    }
  };
  const killAll = (): void => {
    kill('SIGKILL');
    setGone();
  };
  const timers: NodeJS.Timeout[] = [];
  const stop = (): void => {
    if (timers.length > 0) return;
    child.stdin.end();
    timers.push(
      setTimeout(() => kill('SIGTERM'), END_MS),
      setTimeout(killAll, END_MS + KILL_MS),
    );
  };
  signal?.addEventListener('abort', stop, { once: true });
  return {
    stdin: child.stdin,
    stdout: child.stdout,
    async failure(cause) {
      if (signal?.aborted !== true) await withinMs(WORDS_MS, hasSpoken);
      if (signal?.aborted === true) return signal.reason;
      const reason = words.trim() || (cause instanceof Error ? cause.message : String(cause));
      return deniedDaemon(reason, cause) ?? new NarswarmError('NIX_FAILED', `${name} failed: ${reason}`, { cause });
    },
    async end() {
      signal?.removeEventListener('abort', stop);
      stop();
      await gone;
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Agrees on the protocol. @throws NarswarmError `NIX_FAILED` if Nix speaks another one, or not at all */
export async function greet({ stdin }: ServeProcess, reader: WireReader): Promise<void> {
  stdin.write(Buffer.concat([encodeNumber(HELLO), encodeNumber(VERSION)]));
  if ((await reader.number()) !== HELLO_BACK) {
    throw new NarswarmError('NIX_FAILED', 'nix-store --serve does not speak a protocol that narswarm knows');
  }
  await reader.number(); // Nix's own version
}
