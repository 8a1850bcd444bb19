import { PeerConnection, type PeerConnectionOptions } from '../../src/wire/peer-connection.ts';
import { PROCESSOR_TIME } from '../../src/wire/bounds.ts';
import { ProcessorBudget } from '../../src/wire/processor-budget.ts';
import { SendBudget } from '../../src/wire/send-budget.ts';
import { idleSocket, type IdleSocket } from './idle-socket.ts';

/** The torrent of {@link loneConnection}. */
export const SHAPE = { pieces: 3, pieceLength: 32_768, lengthBytes: 70_000 };

/**
 * Opens a connection of a torrent to nobody. By default it gives empty blocks of all pieces.
 *
 * @param head bytes that the peer has sent, from its handshake on
 */
export function loneConnection(
  head: Buffer,
  options: Partial<PeerConnectionOptions> = {},
): { readonly socket: IdleSocket; readonly connection: PeerConnection } {
  const socket = idleSocket();
  const connection = new PeerConnection(
    socket,
    {
      id: 'a',
      remoteAddress: '127.0.0.1',
      remotePort: 1,
      shape: () => SHAPE,
      isMetadata: () => false,
      gives: true,
      holds: () => true,
      read: () => Promise.resolve(),
      budget: new SendBudget(),
      time: new ProcessorBudget(PROCESSOR_TIME).of('127.0.0.1'),
      ...options,
    },
    head,
  );
  return { socket, connection };
}
