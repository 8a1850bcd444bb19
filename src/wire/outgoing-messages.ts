import { MessageReader } from './message-reader.ts';

export interface OutgoingMessagesOptions {
  readonly send: (bytes: Uint8Array) => void;
  /** Called with each message of the swarm. @returns true if the peer should get it */
  readonly isForPeer: (message: Buffer) => boolean;
}

/** Passes the swarm's messages to a peer one by one, with other messages in between. */
export class OutgoingMessages {
  readonly #options: OutgoingMessagesOptions;
  readonly #reader = new MessageReader();
  #hasHandshake = false;
  /** Messages that wait for the end of the current one. */
  readonly #between: Uint8Array[] = [];

  constructor(options: OutgoingMessagesOptions) {
    this.#options = options;
  }

  /** Takes bytes of the swarm. */
  write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      at = this.#reader.step(bytes, at, (message) => {
        if (!this.#hasHandshake || this.#options.isForPeer(message)) this.#options.send(message);
        this.#hasHandshake = true;
      });
      if (this.#reader.isAtStart) for (const message of this.#between.splice(0)) this.#options.send(message);
    }
  }

  /** Sends another message after the current one. */
  say(message: Uint8Array): void {
    if (this.#reader.isAtStart) this.#options.send(message);
    else this.#between.push(message);
  }
}
