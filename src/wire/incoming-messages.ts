import { Brake } from './backpressure.ts';
import { MessageGuard, type MessageGuardOptions } from './message-guard.ts';
import { MessageReader } from './message-reader.ts';
import { HANDSHAKE_BYTES } from './protocol.ts';

export interface IncomingMessagesOptions extends MessageGuardOptions {
  /** Called with the handshake, then with each message. */
  readonly onMessage: (message: Buffer) => void;
  /** Called after all messages that one chunk completes. */
  readonly onRead: () => void;
  /** Called if the peer must be disconnected. */
  readonly refuse: () => void;
}

/**
 * The messages of one peer. Every chunk is checked before it is cut into messages. The handshake is passed on at once,
 * the rest once the peer is welcome: an eager peer sends everything in its first packet.
 */
export class IncomingMessages {
  /** Stops reading while bytes wait for the welcome. */
  readonly brake = new Brake();
  /** Number of bytes received from the peer. */
  receivedBytes = 0;
  readonly #options: IncomingMessagesOptions;
  readonly #guard: MessageGuard;
  readonly #reader = new MessageReader();
  #isWelcome = false;
  /** Bytes after the peer's handshake that arrived before it was welcomed. */
  #held: Buffer | undefined;

  constructor(options: IncomingMessagesOptions) {
    this.#options = options;
    this.#guard = new MessageGuard(options);
  }

  /** Takes bytes of the peer. */
  take(bytes: Buffer): void {
    const handshakeBytes = Math.max(0, HANDSHAKE_BYTES - this.receivedBytes);
    this.receivedBytes += bytes.length;
    if (this.#isWelcome) {
      this.#pass(bytes);
      return;
    }
    if (handshakeBytes > 0) this.#pass(bytes.subarray(0, handshakeBytes));
    const rest = bytes.subarray(handshakeBytes);
    if (rest.length === 0) return;
    this.#held = this.#held === undefined ? rest : Buffer.concat([this.#held, rest]);
    this.brake.pull();
  }

  /** Passes on what follows the handshake. */
  welcome(): void {
    this.#isWelcome = true;
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#pass(held);
    this.brake.release();
  }

  #pass(bytes: Buffer): void {
    const { onMessage, onRead, refuse } = this.#options;
    try {
      if (this.#guard.accept(bytes)) this.#reader.read(bytes, onMessage);
      else refuse();
    } catch {
      refuse(); // an unforeseen error ends a stranger's connection, never the process
    }
    onRead();
  }
}
