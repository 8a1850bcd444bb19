import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const PROTOCOL = '\x13BitTorrent protocol';
const HANDSHAKE_BYTES = 68;

/** Returns true if a peer answers the handshake (BEP 3) for an infohash. A peer that does not serve it hangs up. */
export async function answersHandshake(port: number, infoHash: string): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  let received = 0;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.on('data', (bytes: Buffer) => {
    received += bytes.length;
    if (received >= HANDSHAKE_BYTES) resolve(true);
  });
  socket.on('error', () => resolve(false)).on('close', () => resolve(false));
  await once(socket, 'connect');
  const parts = [Buffer.from(PROTOCOL, 'latin1'), Buffer.alloc(8), Buffer.from(infoHash, 'hex'), Buffer.alloc(20, 65)];
  socket.write(Buffer.concat(parts));
  const answered = await promise;
  socket.destroy();
  return answered;
}

/** Asks a peer again until it serves an infohash: a daemon takes in within a second what a fetch has added. */
export async function untilServed(port: number, infoHash: string): Promise<void> {
  while (!(await answersHandshake(port, infoHash))) await sleep(50);
}
