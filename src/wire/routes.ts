import type { AskingSide } from './asking-side.ts';
import type { Extensions } from './extensions.ts';
import { PIECE_HEAD_BYTES } from './messages.ts';
import { KIND } from './protocol.ts';
import type { ServingSide } from './serving-side.ts';

/** The parts of a connection that handle messages. */
export interface Sides {
  readonly asking: AskingSide;
  readonly serving: ServingSide;
  readonly extensions: Extensions;
  /** True if both sides speak the fast extension (BEP 6). */
  readonly hasFast: () => boolean;
  /** Called when the peer requests or sends a block. */
  readonly onBlock: () => void;
}

/** Handles a message of the peer, after its handshake. @returns true if the swarm should get it */
export function isForSwarm(message: Buffer, { asking, serving, extensions, hasFast, onBlock }: Sides): boolean {
  const number = (at: number): number => numberIn(message, at);
  switch (message[4]) {
    case KIND.INTERESTED:
      serving.onInterested();
      return true;
    case KIND.UNINTERESTED:
    case KIND.HAVE:
    case KIND.BITFIELD:
    case KIND.HAVE_ALL:
    case KIND.HAVE_NONE:
      return true;
    case KIND.CHOKE:
      return asking.onChoke();
    case KIND.UNCHOKE:
      return asking.onUnchoke();
    case KIND.REQUEST:
      onBlock();
      serving.onRequest(number(0), number(1), number(2));
      return false;
    case KIND.CANCEL:
      serving.onCancel(number(0), number(1), number(2));
      return false;
    case KIND.PIECE:
      onBlock();
      return asking.onBlock(number(0), number(1), message.subarray(PIECE_HEAD_BYTES));
    case KIND.REJECT:
      return hasFast() ? asking.onReject(number(0), number(1)) : true;
    case KIND.EXTENDED:
      return extensions.onMessage(message[5] ?? 0, message.subarray(6));
    default:
      return false; // nothing here reads it
  }
}

/** Handles a message of the swarm, after its handshake. @returns true if the peer should get it */
export function isForPeer(message: Buffer, { asking, serving, extensions }: Sides): boolean {
  switch (message[4]) {
    case KIND.CHOKE:
      serving.onChoke();
      return false;
    case KIND.UNCHOKE:
      return serving.onUnchoke();
    case KIND.INTERESTED:
    case KIND.UNINTERESTED:
      asking.onInterest(message[4] === KIND.INTERESTED);
      return true;
    case KIND.REQUEST:
      return asking.onRequest(numberIn(message, 0), numberIn(message, 1), numberIn(message, 2));
    case KIND.EXTENDED:
      return message[5] === 0 || extensions.metadata.onSent(message[5] ?? 0, message.subarray(6));
    default:
      return true;
  }
}

/** Returns a number of a message: index, offset, length. */
function numberIn(message: Buffer, at: number): number {
  return message.readUInt32BE(5 + 4 * at);
}
