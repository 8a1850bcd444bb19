/** Asks cheaply whether a publisher has a newer edition: fetches no shard. */
import type { DhtNode } from '../discovery/dht.ts';
import { isNarswarmError } from '../errors.ts';
import type { HttpClient, Validators } from '../http/client.ts';
import { saltBytes, type PublisherAddress } from '../index/address.ts';
import { MANIFEST_NAME } from '../index/files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../index/format/limits.ts';
import { parseManifest } from '../index/manifest.ts';

/** Time for an answer. A mirror that sends a byte a second would be read for days. */
const ANSWER_MS = 60_000;

/** The means of asking a publisher. */
export interface NewerEditionContext {
  readonly http: Pick<HttpClient, 'getIfChanged'>;
  readonly openDht: () => Promise<DhtNode | undefined>;
  /** Milliseconds for an answer. Default: a minute. */
  readonly answerMs?: number;
}

/** Asks a publisher repeatedly for a newer edition. */
export class NewerEdition {
  readonly #address: PublisherAddress;
  readonly #context: NewerEditionContext;
  /** Validators of the last manifest from the mirror. */
  #validators: Validators | undefined;

  constructor(address: PublisherAddress, context: NewerEditionContext) {
    this.#address = address;
    this.#context = context;
  }

  /**
   * Asks the publisher's mirror for its manifest, if it has changed. Without a mirror, asks the DHT for the pointer.
   *
   * @returns false if nothing above `seq` was found, or nothing answered in time
   * @throws the signal's reason
   */
  async isAbove(seq: number, signal: AbortSignal): Promise<boolean> {
    const { baseUrl } = this.#address;
    const isLate = AbortSignal.timeout(this.#context.answerMs ?? ANSWER_MS);
    const ends = AbortSignal.any([signal, isLate]);
    try {
      return (baseUrl === undefined ? await this.#pointed(seq, ends) : await this.#mirrored(baseUrl, ends)) > seq;
    } catch (error) {
      signal.throwIfAborted();
      if (!isLate.aborted && !isNarswarmError(error)) throw error;
      return false;
    }
  }

  async #mirrored(baseUrl: string, signal: AbortSignal): Promise<number> {
    const { publicKey, salt } = this.#address;
    const options = { maxBytes: MAX_MANIFEST_BYTES, validators: this.#validators, retries: 0, signal };
    const answer = await this.#context.http.getIfChanged(`${baseUrl}/${MANIFEST_NAME}`, options);
    if (answer.kind !== 'changed') return 0;
    const { seq } = parseManifest(answer.bytes, { publicKey, salt, now: new Date() });
    this.#validators = answer.validators;
    return seq;
  }

  async #pointed(seq: number, signal: AbortSignal): Promise<number> {
    const { publicKey, salt } = this.#address;
    const dht = await this.#context.openDht();
    const item = await dht?.getMutable(publicKey, saltBytes(salt), { signal, lowestSeq: seq });
    return item?.seq ?? 0;
  }
}
