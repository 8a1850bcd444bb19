import bencode from 'bencode';
import { endOfValue, type Fields } from '../torrent/bencoding.ts';
import type { AskingSide } from './asking-side.ts';
import type { Ends } from './ends.ts';
import { handshakeForSwarm, readExtendedHandshake } from './extended-handshake.ts';
import { METADATA_EXTENSION, PeerMetadata } from './peer-metadata.ts';
import type { ServingSide } from './serving-side.ts';

export interface ExtensionsOptions {
  readonly asking: AskingSide;
  readonly serving: ServingSide;
  /** Returns true if these bytes are the metadata of the torrent. */
  readonly isMetadata: (bytes: Buffer) => boolean;
  /** Called after each handshake of extensions of the peer. */
  readonly onHandshake: () => void;
}

/** The extensions (BEP 10) of one connection: those of each side, and the targets of their messages. */
export class Extensions {
  /** The metadata that the peer has. */
  readonly metadata: PeerMetadata;
  readonly #ends: Ends;
  readonly #options: ExtensionsOptions;
  /** Our ids, which the peer uses. */
  readonly #own = new Map<number, string>();

  constructor(ends: Ends, options: ExtensionsOptions) {
    this.#ends = ends;
    this.#options = options;
    this.metadata = new PeerMetadata(ends, {
      ownId: () => [...this.#own].find(([, name]) => name === METADATA_EXTENSION)?.[0],
      isSound: options.isMetadata,
      onRequest: (piece) => options.serving.onMetadataRequest(piece),
      onAnswered: () => options.serving.onMetadataSent(),
    });
  }

  /** Records the ids in our own handshake. */
  speak(ids: Readonly<Record<number, string>>): void {
    for (const [id, name] of Object.entries(ids)) this.#own.set(Number(id), name);
  }

  /** Returns the extension with this id of ours. */
  nameOf(id: number): string | undefined {
    return this.#own.get(id);
  }

  /** Handles a message of the peer. @returns true if the swarm should get it */
  onMessage(id: number, payload: Buffer): boolean {
    if (id === 0) {
      this.#onHandshake(payload);
      return false;
    }
    const name = this.#own.get(id);
    if (name === METADATA_EXTENSION) {
      const end = endOfValue(payload, 0);
      this.metadata.onMessage(bencode.decode(payload.subarray(0, end)) as Fields, payload.subarray(end));
    } else if (name === 'lt_donthave') {
      this.#options.asking.onDontHave(payload.readUInt32BE(0));
      return true;
    }
    return false;
  }

  #onHandshake(payload: Buffer): void {
    const extensions = readExtendedHandshake(payload, this.#own.values());
    this.metadata.onHandshake(extensions.ids.get(METADATA_EXTENSION), extensions.metadataBytes);
    this.#ends.toSwarm(handshakeForSwarm(extensions));
    this.#options.onHandshake();
  }
}
