import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { limitBlocks, XZ } from './xz-command.ts';

/**
 * Decodes one file after another, as three lines name them: from, to, and the limit of its output. Starting xz from a
 * shell takes a fifth of the time that it takes from a large process.
 */
const SCRIPT = `
while IFS= read -r from && IFS= read -r to && read -r blocks; do
  if (ulimit -f "$blocks" && exec ${XZ} -- "$from" >"$to" 2>/dev/null) 2>/dev/null
  then echo done
  else echo failed
  fi
done`;

/** A shell that decodes xz files into other files. It leads a process group of its own. */
export class XzDecoder implements AsyncDisposable {
  readonly #shell: ChildProcess;
  readonly #gone: Promise<void>;
  #waiting: PromiseWithResolvers<boolean> | undefined;

  /** @param signal ends it when aborted. Default: only its disposal does */
  constructor(signal?: AbortSignal) {
    this.#shell = spawn('/bin/sh', ['-c', SCRIPT], { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
    const { stdin, stdout } = this.#shell;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    this.#shell.once('error', resolve);
    this.#shell.once('close', () => resolve());
    void this.#gone.then(() => this.#waiting?.resolve(false));
    stdin?.on('error', () => undefined); // the shell has ended
    const end = (): void => this.#end();
    signal?.addEventListener('abort', end, { once: true });
    void this.#gone.then(() => signal?.removeEventListener('abort', end));
    if (stdout !== null) createInterface(stdout).on('line', (line) => this.#waiting?.resolve(line === 'done'));
  }

  /**
   * Decodes a file. One at a time.
   *
   * @param maxBytes more output than this is refused, however small the file
   * @returns false if that is not possible: the file is damaged, the disk is full, there is no xz
   */
  async decode(from: string, to: string, maxBytes: number): Promise<boolean> {
    if (from.includes('\n') || to.includes('\n')) return false;
    this.#waiting = Promise.withResolvers<boolean>();
    this.#shell.stdin?.write(`${from}\n${to}\n${limitBlocks(maxBytes)}\n`);
    const isOver = this.#gone.then(() => false);
    return Promise.race([this.#waiting.promise, isOver]);
  }

  /** Ends it. A file that it is decoding stays incomplete. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
    await this.#gone;
  }

  #end(): void {
    const { pid, exitCode, signalCode } = this.#shell;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    try {
      process.kill(-pid); // its xz, too
    } catch {
      // It has just ended.
    }
  }
}
