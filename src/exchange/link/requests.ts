import type { StoreHash } from '../../nix/brands.ts';
import { MAX_NARINFO_ANSWER_BYTES } from '../../wire/bounds.ts';
import type { GetOptions, Outcome, OnBytes } from '../member.ts';
import { prefixOf, type AskingMessage, type FileRange, type Refusal } from '../messages/messages.ts';

/** A request of ours that has not ended. */
interface Open {
  /** Bytes that are still to come. 0 for an ANY for which no range was picked yet. */
  restBytes: number;
  /** Ranges that the member may choose from. */
  readonly candidates: readonly FileRange[] | undefined;
  isPicked: boolean;
  /** Texts of narinfos so far. */
  readonly texts: (Uint8Array | undefined)[] | undefined;
  /** True if we have cancelled it, and the member has not confirmed its end. */
  isCancelled: boolean;
  readonly onBytes: OnBytes;
  readonly onPicked: (index: number) => void;
  readonly settle: (outcome: Outcome) => void;
}

/** The parts of a connection that its requests need. */
export interface RequestsOptions {
  readonly send: (message: AskingMessage) => void;
  /** Called with the number of received payload bytes. */
  readonly onPayload: (bytes: number) => void;
  /** Called when the first request is open, and when the last one has ended. */
  readonly onBusy: (isBusy: boolean) => void;
  /** Called with a request whose answer our limit must not delay. */
  readonly onUrgent: () => void;
}

/**
 * Our requests on one connection, many at a time. Each ends in one of two ways: with all its bytes, or with one REFUSE.
 * A cancelled request ends so, too. Therefore bytes that nobody requested can be told from bytes that are no longer
 * wanted.
 */
export class Requests {
  readonly #options: RequestsOptions;
  readonly #open = new Map<number, Open>();
  #nextId = 1;
  #inFlightBytes = 0;
  /** Number of awaited answers that our limit must not delay. */
  #urgent = 0;

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** True while an answer is awaited that our limit must not delay. */
  get isUrgent(): boolean {
    return this.#urgent > 0;
  }

  get(range: FileRange, onBytes: OnBytes, signal: AbortSignal, { isUrgent }: GetOptions = {}): Promise<Outcome> {
    const id = this.#nextId++;
    return this.#ask({ kind: 'get', id, ...range }, { restBytes: range.length, onBytes, isUrgent }, signal);
  }

  any(
    candidates: readonly FileRange[],
    on: { readonly picked: (index: number) => void; readonly bytes: OnBytes },
    signal: AbortSignal,
  ): Promise<Outcome> {
    const ranges = candidates.map(({ file, from, length }) => ({ prefix: prefixOf(file), from, length }));
    return this.#ask(
      { kind: 'any', id: this.#nextId++, candidates: ranges },
      { candidates, onBytes: on.bytes, onPicked: on.picked },
      signal,
    );
  }

  async narInfos(hashes: readonly StoreHash[], signal: AbortSignal): Promise<(string | undefined)[]> {
    const texts: (Uint8Array | undefined)[] = Array.from({ length: hashes.length });
    const message: AskingMessage & { readonly id: number } = { kind: 'narinfoGet', id: this.#nextId++, hashes };
    await this.#ask(message, { texts, restBytes: hashes.length, isUrgent: true }, signal);
    return texts.map((text) =>
      text === undefined || text.length === 0 ? undefined : Buffer.from(text).toString('utf8'),
    );
  }

  /** Handles bytes of an answer. @returns false if they were not requested */
  onData(id: number, bytes: Uint8Array): boolean {
    const open = this.#open.get(id);
    if (open === undefined || open.texts !== undefined || bytes.length > open.restBytes) return false;
    open.restBytes -= bytes.length;
    this.#inFlightBytes -= bytes.length;
    this.#options.onPayload(bytes.length);
    if (!open.isCancelled) open.onBytes(bytes);
    if (open.restBytes === 0) this.#end(id, 'complete');
    return true;
  }

  /** Handles the member's choice of a range. @returns false if it had nothing to choose */
  onPicked(id: number, index: number): boolean {
    const open = this.#open.get(id);
    const range = open?.candidates?.[index];
    if (open === undefined || range === undefined || open.isPicked) return false;
    open.isPicked = true;
    open.restBytes = range.length;
    this.#inFlightBytes += range.length;
    if (!open.isCancelled) open.onPicked(index);
    return true;
  }

  /** Handles a narinfo. @returns false if it was not requested, or if all of them are too long */
  onNarInfo(id: number, index: number, text: Uint8Array): boolean {
    const open = this.#open.get(id);
    const { texts } = open ?? {};
    if (open === undefined || texts === undefined || index >= texts.length || texts[index] !== undefined) return false;
    texts[index] = text;
    this.#options.onPayload(text.length);
    if (texts.reduce((sum, one) => sum + (one?.length ?? 0), 0) > MAX_NARINFO_ANSWER_BYTES) return false;
    if (--open.restBytes === 0) this.#end(id, 'complete');
    return true;
  }

  /** Handles a refusal. @returns false if there is no such request */
  onRefuse(id: number, reason: Refusal): boolean {
    if (!this.#open.has(id)) return false;
    this.#end(id, reason);
    return true;
  }

  /** Ends all requests when the connection ends. */
  close(): void {
    for (const id of this.#open.keys()) this.#end(id, 'closed');
  }

  async #ask(
    message: AskingMessage & { readonly id: number },
    parts: Partial<Pick<Open, 'restBytes' | 'candidates' | 'texts' | 'onBytes' | 'onPicked'>> & GetOptions,
    signal: AbortSignal,
  ): Promise<Outcome> {
    if (signal.aborted) return 'cancelled';
    const { id } = message;
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const { restBytes = 0, candidates, texts, isUrgent = false, onBytes = ignore, onPicked = ignore } = parts;
    const settle = (outcome: Outcome): void => {
      signal.removeEventListener('abort', onAbort);
      if (isUrgent) this.#urgent--;
      resolve(outcome);
    };
    const onAbort = (): void => this.#cancel(id);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#open.set(id, {
      restBytes,
      candidates,
      isPicked: false,
      texts,
      isCancelled: false,
      onBytes,
      onPicked,
      settle,
    });
    if (texts === undefined) this.#inFlightBytes += restBytes;
    if (this.#open.size === 1) this.#options.onBusy(true);
    if (isUrgent) {
      this.#urgent++;
      this.#options.onUrgent();
    }
    this.#options.send(message);
    return promise;
  }

  #cancel(id: number): void {
    const open = this.#open.get(id);
    if (open === undefined || open.isCancelled) return;
    open.isCancelled = true;
    open.settle('cancelled');
    this.#options.send({ kind: 'cancel', id });
  }

  #end(id: number, outcome: Outcome): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#open.delete(id);
    if (open.texts === undefined) this.#inFlightBytes -= open.restBytes;
    if (!open.isCancelled) open.settle(outcome);
    if (this.#open.size === 0) this.#options.onBusy(false);
  }
}

function ignore(): void {
  // nothing to do
}
