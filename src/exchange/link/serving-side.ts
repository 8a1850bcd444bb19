import type { Receiver } from '../../wire/send-budget.ts';
import { Answers } from '../answers/answers.ts';
import type { Connection } from './connection.ts';
import type { LinkContext } from './link-context.ts';
import type { AskingMessage, ServingMessage } from '../messages/messages.ts';
import { TheirWants } from './their-wants.ts';

/** Interval of keep-alives to a member that waits for us, since others may be served first. */
const KEEP_ALIVE_MS = 2_000;

/** The parts of a link that serving its member needs. */
export interface ServingSideOptions {
  /** The member, as it is counted among those that receive bytes. */
  readonly receiver: Receiver;
  /** `host:port` of the member. */
  readonly address: string;
  readonly connection: Connection;
  /** The id that the member uses for the exchange. */
  readonly extensionId: () => number;
  /** Returns true if the scope lets this member have our NARs. */
  readonly mayHave: () => boolean;
  readonly send: (message: ServingMessage) => void;
}

/** The side of a connection on which we are asked: the files that the member wants, and the answers to its requests. */
export class ServingSide {
  readonly wants: TheirWants;
  readonly answers: Answers;
  /** Payload bytes that the member was sent. */
  sentBytes = 0;
  readonly #connection: Connection;
  #keptAliveAtMs = 0;

  constructor(options: ServingSideOptions, context: LinkContext) {
    const { receiver, address, connection, extensionId, mayHave, send } = options;
    const { offer, budget, leastSent, onUpload } = context;
    const { host } = receiver;
    this.#connection = connection;
    this.wants = new TheirWants({ offer, room: context.wantsRoom.of(host), mayHave, send });
    this.answers = new Answers({
      offer,
      address,
      mayHave,
      leastSent,
      uploadLimit: context.uploadLimit(host),
      takeTurn: (answer) => budget.turns.take(receiver, answer),
      takeRoom: (bytes, resume) => budget.take(receiver, bytes, resume),
      admitNarInfo: () => context.narInfos.admit(host),
      requestsRoom: context.requestsRoom.of(host),
      readOn: () => connection.readOn(),
      unsentBytes: () => connection.unsentBytes,
      extensionId,
      send,
      sendBytes: (bytes, onSent) => connection.send(bytes, onSent),
      onUpload: (bytes) => {
        this.sentBytes += bytes;
        onUpload(bytes);
      },
    });
  }

  /** Handles a message of the member. @returns false if it must not send this */
  on(message: AskingMessage): boolean {
    switch (message.kind) {
      case 'want':
        return this.wants.want(message.batch, message.prefixes);
      case 'unwant':
        this.wants.unwant(message.prefixes);
        return true;
      case 'cancel':
        this.answers.cancel(message.id);
        return true;
      default:
        return this.answers.ask(message);
    }
  }

  /** Sends a keep-alive if the member waits for answers and has got nothing for some time. */
  keepAlive(nowMs: number): void {
    if (this.answers.size === 0) return;
    if (nowMs - Math.max(this.#keptAliveAtMs, this.#connection.takenAtMs) < KEEP_ALIVE_MS) return;
    this.#keptAliveAtMs = nowMs;
    this.#connection.keepAlive();
  }

  close(): void {
    this.answers.close();
    this.wants.close();
  }
}
