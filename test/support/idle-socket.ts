import { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** A socket to nobody. */
export interface IdleSocket extends Socket {
  /** What was written to it. */
  readonly written: Buffer[];
  /** Has bytes come, as if the other side had sent them. */
  push(bytes: Buffer): boolean;
}

/** A socket that takes everything that is written, and reads what a test pushes. */
export function idleSocket(): IdleSocket {
  const written: Buffer[] = [];
  const socket = new Duplex({
    read: () => undefined,
    write: (bytes: Buffer, _encoding, done) => {
      written.push(Buffer.from(bytes)); // lent
      done();
    },
  });
  return Object.assign(socket, { written, setNoDelay: () => socket }) as unknown as IdleSocket;
}
