/* oxlint-disable oxc/no-this-in-exported-function -- both functions stand in for methods of Peer and Wire */
import type Wire from 'bittorrent-protocol';
import type Peer from 'webtorrent/lib/peer.js';
import { receive } from './direct-payload.ts';
import { giveBack, isLent } from '../bytes/lent-buffers.ts';
import { isFlooded, serveWaiting } from './upload-window.ts';
import { stateOf } from './wire-state.ts';

/**
 * Replaces a pipeline of six streams with two listeners. Writes of one tick leave in one system call (a request is 17
 * bytes, a block's header 13), and the rate limit pauses the socket, so that the sender feels it.
 */
export function joinSocketAndWire(this: Peer): void {
  const { conn, wire } = this;
  const { limit } = this.throttleGroups;
  if (conn === null || wire === null) return;
  stateOf(wire).connection = conn;
  conn.on('data', (bytes: Buffer) => {
    this.emit('download', bytes.length);
    if (this.destroyed) return;
    try {
      receive(wire, bytes);
    } catch {
      this.destroy(); // what nobody has foreseen costs a stranger's connection, never the process
    }
    if (isFlooded(wire, conn.writableLength)) {
      this.destroy();
      return;
    }
    const waitMs = limit?.take(bytes.length) ?? 0;
    if (waitMs > 0) {
      conn.pause();
      stateOf(wire).heldUntilMs = performance.now() + waitMs;
      setTimeout(() => conn.resume(), waitMs);
    }
  });
  let isCorked = false;
  wire.on('data', (bytes: Uint8Array) => {
    this.emit('upload', bytes.length);
    if (this.destroyed) return;
    if (!isCorked) {
      isCorked = true;
      conn.cork();
      process.nextTick(() => {
        isCorked = false;
        conn.uncork();
      });
    }
    const onSent = isLent(bytes) ? () => giveBack(bytes) : undefined;
    if (conn.write(bytes, onSent)) serveWaiting(wire);
    else wire.pause();
  });
  conn.on('drain', () => {
    wire.resume();
    serveWaiting(wire);
    stateOf(wire).onRoom?.();
  });
}

/** Replaces a concatenation at every chunk that arrives with one a message. */
export function bufferUntilParsable(this: Wire, bytes: Uint8Array, done: (error?: Error | null) => void): void {
  this._bufferSize += bytes.length;
  this._buffer.push(bytes);
  if (this._bufferSize >= this._parserSize) {
    if (this._buffer.length > 1) this._buffer = [Buffer.concat(this._buffer, this._bufferSize)];
    this._processBuffer();
  }
  done(null);
}
