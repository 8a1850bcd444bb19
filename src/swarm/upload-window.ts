/**
 * Bounds what a peer can make us hold that asks and does not read: WebTorrent reads every block that is asked for from
 * the disk at once and keeps it until the peer takes it.
 */
import type Wire from 'bittorrent-protocol';
import { MAX_OPEN_REQUESTS, MAX_UNREAD_ANSWERS_BYTES, MAX_UNSENT_PER_PEER_BYTES } from '../wire/bounds.ts';
import { refuse } from './wire-guard.ts';
import { stateOf } from './wire-state.ts';

type OnRequest = (index: number, offset: number, length: number) => void;

let answer: OnRequest | undefined;

/** Wraps the handler of REQUEST: what does not fit the window waits, and more than any client asks for ends the connection. */
export function answerWithinWindow(original: OnRequest): OnRequest {
  answer = original;
  return function answerInTurn(this: Wire, index, offset, length) {
    const { waiting, budget } = stateOf(this);
    if (waiting.length + this.peerRequests.length >= MAX_OPEN_REQUESTS) {
      refuse(this);
      return;
    }
    waiting.push([index, offset, length]);
    budget?.noteRequest();
    serveWaiting(this);
  };
}

/** Wraps the handler of CANCEL, which knows only of requests that are being answered. */
export function forgetCancelled(original: OnRequest): OnRequest {
  return function forgetWaiting(this: Wire, index, offset, length) {
    const { waiting } = stateOf(this);
    const at = waiting.findIndex(([i, o, l]) => i === index && o === offset && l === length);
    if (at === -1) original.call(this, index, offset, length);
    else waiting.splice(at, 1);
  };
}

/** Answers the requests of a peer for which there is room now. */
export function serveWaiting(wire: Wire): void {
  const state = stateOf(wire);
  while (!wire.destroyed && state.waiting.length > 0 && heldBytes(wire) < MAX_UNSENT_PER_PEER_BYTES) {
    const [index, offset, length] = state.waiting[0]!;
    if (state.budget?.take(wire, length, () => serveWaiting(wire)) === false) return;
    state.waiting.shift();
    state.activeAtMs = performance.now();
    answer?.call(wire, index, offset, length);
  }
}

/** True where a peer lets more answers lie than any client that reads at all. */
export function isFlooded(wire: Wire, socketBytes: number): boolean {
  return unsentBytes(wire) + socketBytes > MAX_UNREAD_ANSWERS_BYTES;
}

/** Bytes being read from the disk or waiting for the socket. */
function heldBytes(wire: Wire): number {
  return wire.peerRequests.reduce((sum, request) => sum + request.length, unsentBytes(wire));
}

function unsentBytes(wire: Wire): number {
  return wire._readableState.buffered;
}
