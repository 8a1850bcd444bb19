import type Wire from 'bittorrent-protocol';
import type { PeerConnection } from '../wire/peer-connection.ts';
import type { Incoming, PayloadExtension } from './direct-payload.ts';
import type { Line } from '../discovery/line.ts';
import type { PeerRecord } from '../discovery/peer-table.ts';
import type { UploadBudget } from './upload-budget.ts';

/** Blocks that follow each other and were asked for in one request. */
export interface AskedRun {
  readonly index: number;
  /** Number of the first block in its piece. */
  readonly first: number;
  readonly count: number;
  /** Where the bytes go. */
  readonly target: Uint8Array;
}

/** What the swarm hangs on each connection and reads back. */
export interface WireState {
  /** `host:port`, as the peer table has it; the port of an incoming connection is nobody's address. */
  address: string;
  /** Connection that the wire is read from and written to. */
  connection: PeerConnection | undefined;
  /** Record of the peer at the other end; undefined on connections where nothing is asked of it. */
  peer: PeerRecord | undefined;
  /** The line that it shares with the other peers. */
  line: Line | undefined;
  /** Bytes asked for and not yet come. */
  inFlightBytes: number;
  /** Requests of ours in a row that the peer turned down, though it had said that it would serve. */
  refusals: number;
  /** Payload that came and nobody had asked for. */
  unaskedBytes: number;
  /** Shared with all peers: memory for what they ask for. */
  budget: UploadBudget | undefined;
  /** Memory that an extension's answers to the peer will take. */
  reservedBytes: number;
  /** Requests of the peer that wait until it has read what it asked for before. */
  readonly waiting: (readonly [index: number, offset: number, length: number])[];
  /** When the peer last asked for a block or sent one; milliseconds of `performance.now()`. */
  activeAtMs: number;
  /** Blocks that were asked for and are not here, by {@link targetKey}. */
  readonly asked: Map<number, AskedRun>;
  /** True while a request of ours is taken back. */
  withdrawn: boolean;
  /** Since when it could have sent something: its last payload, or the first request after that. */
  silentSinceMs: number;
  /** Until when our own rate limit reads nothing of it. */
  heldUntilMs: number;
  /** The message whose payload is on its way. */
  incoming: Incoming | undefined;
  /** The extension whose payload goes straight to its place. */
  extension: PayloadExtension | undefined;
  /** Told when the peer has read what it was sent, and there is room for more. */
  onRoom: (() => void) | undefined;
  /** Told of each block that was asked for and came. */
  onPieceBytes: ((bytes: number) => void) | undefined;
}

const states = new WeakMap<Wire, WireState>();

/** State that the swarm keeps for a connection. */
export function stateOf(wire: Wire): WireState {
  let state = states.get(wire);
  if (state === undefined) {
    state = {
      address: '',
      connection: undefined,
      peer: undefined,
      line: undefined,
      inFlightBytes: 0,
      refusals: 0,
      unaskedBytes: 0,
      budget: undefined,
      reservedBytes: 0,
      waiting: [],
      activeAtMs: performance.now(),
      asked: new Map(),
      withdrawn: false,
      silentSinceMs: 0,
      heldUntilMs: 0,
      incoming: undefined,
      extension: undefined,
      onRoom: undefined,
      onPieceBytes: undefined,
    };
    states.set(wire, state);
  }
  return state;
}

/**
 * Since when a peer that is asked could have sent something: not while our own limit reads nothing of it, nor, if it has
 * sent before, while the line was out. Milliseconds of `performance.now()`.
 */
export function silentSince({ silentSinceMs, heldUntilMs, peer, line }: WireState): number {
  const isProven = peer !== undefined && peer.bytes > 0;
  return Math.max(silentSinceMs, heldUntilMs, isProven && line !== undefined ? line.backAtMs : 0);
}
