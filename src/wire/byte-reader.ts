import type { Socket } from 'node:net';

/** Reads a socket in portions of known length, at most one chunk ahead. */
export class ByteReader {
  readonly #socket: Socket;
  readonly #signal: AbortSignal;
  #buffer: Buffer = Buffer.alloc(0);

  /** @param signal ends a wait for missing bytes */
  constructor(socket: Socket, signal: AbortSignal) {
    this.#socket = socket;
    this.#signal = signal;
  }

  /** Waits for this many bytes. Rejects if the connection ends first. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#buffer.length < bytes) await this.#more();
    const taken = this.#buffer.subarray(0, bytes);
    this.#buffer = this.#buffer.subarray(bytes);
    return taken;
  }

  /**
   * Skips everything up to and including the first `pattern`, which must begin within `maxBytes`. Rejects if it does
   * not.
   */
  async skipPast(pattern: Buffer, maxBytes: number): Promise<void> {
    for (;;) {
      const at = this.#buffer.indexOf(pattern);
      if (at > maxBytes || (at === -1 && this.#buffer.length >= maxBytes + pattern.length)) {
        throw new RangeError('the expected bytes are missing');
      }
      if (at !== -1) {
        this.#buffer = this.#buffer.subarray(at + pattern.length);
        return;
      }
      await this.#more();
    }
  }

  /** Returns the bytes that were read and not taken. The socket is paused after them. */
  rest(): Buffer {
    const rest = this.#buffer;
    this.#buffer = Buffer.alloc(0);
    return rest;
  }

  async #more(): Promise<void> {
    const socket = this.#socket;
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const onData = (chunk: Buffer): void => {
      socket.pause(); // at once: the next chunk may already be in memory
      resolve(chunk);
    };
    const onEnd = (): void => reject(new Error('the connection has ended'));
    if (socket.destroyed || socket.readableEnded || this.#signal.aborted) onEnd();
    socket.once('data', onData).once('end', onEnd).once('close', onEnd);
    this.#signal.addEventListener('abort', onEnd);
    socket.resume();
    try {
      const chunk = await promise;
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    } finally {
      socket.off('data', onData).off('end', onEnd).off('close', onEnd);
      this.#signal.removeEventListener('abort', onEnd);
    }
  }
}
