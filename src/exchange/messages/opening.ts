import type { InfoHash } from '../../nix/brands.ts';
import { CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS, MAX_EXTENDED_HANDSHAKES } from '../../wire/bounds.ts';
import { formatOpening, parseExtendedHandshake, parseHandshake, type ExtendedHandshake } from './handshake.ts';

/** The parts of a connection that its opening needs. */
export interface OpeningOptions {
  readonly group: InfoHash;
  readonly isOutgoing: boolean;
  /** 20 bytes that identify this process. */
  readonly ownPeerId: Buffer;
  /** Port at which others reach us. */
  readonly port: () => number;
  readonly send: (bytes: Uint8Array) => void;
  /** Called if the connection or the handshakes take too long. */
  readonly onLate: () => void;
}

/** The opening of one connection: it is made, and both sides send two handshakes, each step within its time. */
export class Opening {
  /** True once there is a connection. The handshakes follow. */
  hasConnected = false;
  /** The peer id of the other side, in hex. Empty until it is known. */
  peerId = '';
  /** The id that the other side uses for the exchange. 0 until it is known. */
  extensionId = 0;
  readonly #options: OpeningOptions;
  #extendedHandshakes = 0;
  #timer: NodeJS.Timeout;

  constructor(options: OpeningOptions) {
    this.#options = options;
    this.#timer = setTimeout(options.onLate, options.isOutgoing ? CONNECT_TIMEOUT_MS : HANDSHAKE_TIMEOUT_MS);
  }

  /** True if we have connected to ourselves. */
  get isOurselves(): boolean {
    return this.peerId === this.#options.ownPeerId.toString('hex');
  }

  /** Sends our handshakes. */
  sayHello(): void {
    const { send, group, ownPeerId, port } = this.#options;
    send(formatOpening(group, ownPeerId, port()));
  }

  /** An outgoing connection is made: the handshakes begin. */
  onConnected(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#options.onLate, HANDSHAKE_TIMEOUT_MS);
    this.hasConnected = true;
    this.sayHello();
  }

  /** Handles the first handshake of the other side. @returns false if it is not for us */
  onHandshake(bytes: Buffer): boolean {
    const handshake = parseHandshake(bytes);
    this.peerId = handshake?.peerId ?? '';
    return handshake?.group === this.#options.group && !this.isOurselves;
  }

  /**
   * Handles an extended handshake. The first one opens the connection; a later one may change the id (BEP 10).
   *
   * @returns the first one, `again` for a later one, or undefined if the other side must be disconnected: a client
   *   without the exchange or with another version, or one that sends too many
   */
  onExtended(payload: Buffer): ExtendedHandshake | 'again' | undefined {
    const handshake = parseExtendedHandshake(payload);
    if (handshake?.extensionId === undefined) return undefined;
    if (++this.#extendedHandshakes > MAX_EXTENDED_HANDSHAKES) return undefined;
    const isFirst = this.extensionId === 0;
    this.extensionId = handshake.extensionId;
    if (!isFirst) return 'again';
    clearTimeout(this.#timer);
    return handshake;
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
