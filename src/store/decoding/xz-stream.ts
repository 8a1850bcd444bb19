import { spawn, type ChildProcess } from 'node:child_process';
import { limitBlocks, XZ } from './xz-command.ts';

/** Exec replaces the shell: there is one process, which ends with its input. */
const SCRIPT = `ulimit -f "$1" && exec ${XZ}`;

/** An xz that decodes bytes into a file while they arrive. */
export class XzStream implements AsyncDisposable {
  readonly #xz: ChildProcess;
  /** Resolves once it has ended: true if it has decoded everything. */
  readonly #ended: Promise<boolean>;

  /**
   * @param to descriptor of the file, which may be closed afterwards
   * @param maxBytes more output than this is refused
   */
  constructor(to: number, maxBytes: number) {
    this.#xz = spawn('/bin/sh', ['-c', SCRIPT, 'sh', limitBlocks(maxBytes)], { stdio: ['pipe', to, 'ignore'] });
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#ended = promise;
    this.#xz.once('error', () => resolve(false));
    this.#xz.once('close', (status) => resolve(status === 0));
    this.#xz.stdin?.on('error', () => undefined); // it has ended
  }

  /** Passes bytes on. They must not change meanwhile. @returns false if it has ended */
  async write(bytes: Uint8Array): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#xz.stdin?.write(bytes, (error) => resolve(error === null || error === undefined));
    return Promise.race([promise, this.#ended.then(() => false)]);
  }

  /** Waits for its end. @returns true if the bytes were a whole file, and the output is complete */
  async end(): Promise<boolean> {
    this.#xz.stdin?.end();
    return this.#ended;
  }

  /** Ends it at once. The output stays incomplete. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#xz.kill();
    this.#xz.stdin?.destroy();
    await this.#ended;
  }
}
