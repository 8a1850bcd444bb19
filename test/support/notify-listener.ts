/** A service manager as far as sd_notify(3) goes: a real datagram socket, real messages. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('notify_listener.py', import.meta.url));

export class NotifyListener implements AsyncDisposable {
  /** For NOTIFY_SOCKET. */
  readonly socket: string;
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  /** The assignments of each message so far. */
  readonly messages: (readonly string[])[] = [];

  private constructor(socket: string) {
    this.socket = socket;
    this.#child = spawn('/usr/bin/python3', [SCRIPT, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @param socket a path; with `@` in front an abstract name */
  static async at(socket: string): Promise<NotifyListener> {
    const listener = new NotifyListener(socket);
    await listener.#lines.next();
    return listener;
  }

  /** Waits for a message with this assignment. Returns all of its assignments. */
  async until(fits: (assignment: string) => boolean): Promise<readonly string[]> {
    for (;;) {
      const line = await this.#lines.next();
      if (line.done === true) throw new Error('the listener has ended');
      const message = JSON.parse(line.value) as readonly string[];
      this.messages.push(message);
      if (message.some(fits)) return message;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
