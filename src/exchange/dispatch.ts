import type { FileHash } from '../nix/brands.ts';
import type { Answers } from './answers.ts';
import type { Haves } from './haves.ts';
import type { Edition, Message } from './messages.ts';
import type { Requests } from './requests.ts';
import type { TheirFetches } from './their-fetches.ts';
import type { TheirWants } from './their-wants.ts';

/** The parts of a connection that handle its messages, and the events that follow. */
export interface Handlers {
  readonly theirs: TheirWants;
  readonly haves: Haves;
  readonly fetches: TheirFetches;
  readonly answers: Answers;
  readonly requests: Requests;
  /** The member has all of a wanted file now. */
  readonly onHave: (file: FileHash) => void;
  /** It has more pieces of a wanted file. */
  readonly onPiece: (file: FileHash) => void;
  readonly onEdition: (edition: Edition) => void;
}

/** Passes a message of a member to the part that handles it. @returns false if the member must not send it */
export function dispatch(message: Exclude<Message, { kind: 'data' }>, to: Handlers): boolean {
  switch (message.kind) {
    case 'want':
      return to.theirs.want(message.batch, message.prefixes);
    case 'unwant':
      to.theirs.unwant(message.prefixes);
      return true;
    case 'haveMap':
      return onFiles(to.haves.onMap(message.batch, message.bitmap), to);
    case 'have':
      return onFiles(to.haves.onHave(message.prefixes), to);
    case 'pieces':
      for (const file of to.haves.onPieces(message.prefix, message.count, message.bitmap)) to.onPiece(file);
      return true;
    case 'piece':
      for (const file of to.haves.onPiece(message.prefix, message.index)) to.onPiece(file);
      return true;
    case 'get':
    case 'any':
    case 'narinfoGet':
      return to.answers.ask(message);
    case 'cancel':
      to.answers.cancel(message.id);
      return true;
    case 'refuse':
      return to.requests.onRefuse(message.id, message.reason);
    case 'picked':
      return to.requests.onPicked(message.id, message.index);
    case 'fetching':
      to.fetches.on(message.fetches);
      return true;
    case 'narinfo':
      return to.requests.onNarInfo(message.id, message.index, message.text);
    default:
      to.onEdition(message);
      return true;
  }
}

/** @param files those that the member has now; undefined if it must not say so */
function onFiles(files: readonly FileHash[] | undefined, { fetches, onHave }: Handlers): boolean {
  fetches.forget(files ?? []);
  for (const file of files ?? []) onHave(file);
  return files !== undefined;
}
