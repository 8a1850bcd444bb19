import { noteAnswer, type PeerRecord, type PeerTable } from '../../discovery/peer-table.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { Connection } from './connection.ts';
import { Haves } from './haves.ts';
import type { AskingMessage, Edition, ServingMessage } from '../messages/messages.ts';
import type { Patience } from './patience.ts';
import { Requests } from './requests.ts';
import { Silence } from './silence.ts';
import { TheirEditions } from './their-editions.ts';
import { TheirFetches } from './their-fetches.ts';
import type { Wanted, WantedFiles } from './wanted.ts';

/** The parts of a connection that asking its member needs. */
export interface AskingSideOptions {
  readonly wanted: WantedFiles;
  /** The record of the member over all connections. */
  readonly peer: () => PeerRecord;
  readonly connection: Pick<Connection, 'heardAtMs' | 'heldUntilMs' | 'hurry'>;
  readonly line: PeerTable['line'];
  readonly patience: Patience;
  readonly send: (message: AskingMessage) => void;
  /** Called when the member has all of a wanted file. */
  readonly onHave: (file: FileHash) => void;
  /** Called when it has answered for all wanted files, after {@link onHave}. */
  readonly onKnown: () => void;
  /** Called when it has more pieces of a wanted file. */
  readonly onPiece: (file: FileHash) => void;
  readonly onEdition: (edition: Edition) => void;
}

/** The asking side of a connection: the files that the member claims to have, our requests, and its answers. */
export class AskingSide {
  readonly haves: Haves;
  readonly fetches: TheirFetches;
  readonly editions = new TheirEditions();
  readonly requests: Requests;
  readonly #options: AskingSideOptions;
  readonly #silence: Silence;

  constructor(options: AskingSideOptions) {
    const { wanted, connection, line, patience, send } = options;
    this.#options = options;
    this.haves = new Haves(wanted, send);
    this.fetches = new TheirFetches(wanted, () => patience.ownMs);
    this.requests = new Requests({
      send,
      onPayload: (bytes) => this.#onPayload(bytes),
      onBusy: (isBusy) => this.#onBusy(isBusy),
      onUrgent: () => connection.hurry(),
    });
    this.#silence = new Silence(connection, line, patience);
  }

  /** True if the member has sent nothing for too long. False if nothing is requested from it. */
  get isLate(): boolean {
    return this.requests.size > 0 && this.#silence.isLate(performance.now());
  }

  /** The longest silence that the member has ended by sending something, in milliseconds. Undefined before that. */
  get endedSilenceMs(): number | undefined {
    return this.#silence.endedMs;
  }

  /**
   * Returns true if the member leaves our requests without any byte for too long.
   *
   * @param wokeAtMs when this process last ran again after a delay
   */
  isDead(nowMs: number, wokeAtMs: number): boolean {
    return this.requests.size > 0 && this.#silence.isDead(nowMs, wokeAtMs, this.#options.peer().bytes > 0);
  }

  /** Handles a message of the member. @returns false if it must not send this */
  on(message: Exclude<ServingMessage, { kind: 'data' }>): boolean {
    switch (message.kind) {
      case 'haveMap':
        return this.#onMap(this.haves.onMap(message.batch, message.bitmap));
      case 'have':
        return this.#onFiles(this.haves.onHave(message.prefixes));
      case 'pieces':
        return this.#onPieces(this.haves.onPieces(message.prefix, message.count, message.bitmap));
      case 'piece':
        return this.#onPieces(this.haves.onPiece(message.prefix, message.index));
      case 'refuse':
        return this.requests.onRefuse(message.id, message.reason);
      case 'picked':
        return this.requests.onPicked(message.id, message.index);
      case 'narinfo':
        return this.requests.onNarInfo(message.id, message.index, message.text);
      case 'fetching':
        this.fetches.on(message.fetches);
        return true;
      default:
        this.editions.note(message);
        this.#options.onEdition(message);
        return true;
    }
  }

  /** Forgets files that are no longer wanted. */
  unwant(files: readonly Wanted[]): void {
    this.fetches.forget(files.map(({ file }) => file));
    this.haves.unwant(files);
  }

  close(): void {
    this.requests.close();
  }

  #onMap(files: readonly FileHash[] | undefined): boolean {
    const isAnswer = this.#onFiles(files);
    if (isAnswer && this.haves.isKnown) this.#options.onKnown();
    return isAnswer;
  }

  /** @param files those that the member has now; undefined if it must not say so */
  #onFiles(files: readonly FileHash[] | undefined): boolean {
    this.fetches.forget(files ?? []);
    for (const file of files ?? []) this.#options.onHave(file);
    return files !== undefined;
  }

  #onPieces(files: readonly FileHash[]): true {
    for (const file of files) this.#options.onPiece(file);
    return true;
  }

  #onBusy(isBusy: boolean): void {
    const now = performance.now();
    const { rate } = this.#options.peer();
    if (isBusy) {
      this.#silence.onAsked(now);
      rate.begin(now);
    } else {
      rate.end(now);
    }
  }

  #onPayload(bytes: number): void {
    const now = performance.now();
    const peer = this.#options.peer();
    this.#silence.onPayload(now);
    noteAnswer(peer);
    peer.rate.add(bytes, now);
    this.#options.line.onBytes(now);
  }
}
