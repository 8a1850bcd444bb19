import { PeerTable } from '../../../src/discovery/peer-table.ts';
import { EXCHANGE_NAME, type NarExchange, useNarExchange } from '../../../src/swarm/nar-exchange.ts';
import { PeerConnection } from '../../../src/wire/peer-connection.ts';
import { SendBudget } from '../../../src/wire/send-budget.ts';
import { idleSocket } from '../../support/idle-socket.ts';
import { handshakeOf, message, numbers, ID } from '../../support/raw-peer.ts';
import type { FuzzTarget } from '../target.ts';

const INFO_HASH = Buffer.alloc(20, 0xaa);
const NAR_BYTES = 40;
const SOUND = [
  Buffer.concat([Buffer.of(1), numbers(7), INFO_HASH]),
  Buffer.concat([Buffer.of(1), numbers(7), INFO_HASH, numbers(8), INFO_HASH]),
  Buffer.concat([Buffer.of(2), numbers(1, NAR_BYTES, 0), Buffer.alloc(NAR_BYTES)]),
  Buffer.concat([Buffer.of(2), numbers(1, NAR_BYTES, 0), Buffer.alloc(10)]),
  Buffer.concat([Buffer.of(3), numbers(1)]),
];

/** The messages of `nar_exchange`, to one connection until it is ended, while it asks for NARs of its own. */
export function exchange(): FuzzTarget {
  let connection: PeerConnection | undefined;
  let ours: NarExchange | undefined;
  const connect = async (): Promise<NarExchange> => {
    const hello = message(ID.EXTENDED, Buffer.from(`\0d1:md12:${EXCHANGE_NAME}i1eee`));
    const made = new PeerConnection(idleSocket(), {
      id: 'a',
      remoteAddress: '127.0.0.1',
      remotePort: 1,
      shape: () => undefined,
      isMetadata: () => false,
      gives: true,
      holds: () => false,
      budget: new SendBudget(),
      head: Buffer.concat([handshakeOf(INFO_HASH.toString('hex')), hello]),
    });
    const wire = { extendedMapping: {}, extendedHandshake: {}, use: () => undefined, setTimeout: () => undefined };
    const exchanged = useNarExchange(made, wire, async () => Buffer.alloc(NAR_BYTES), new PeerTable());
    const greeted = new Promise((resolve) => made.once('extensions', resolve));
    made.welcome({ 1: EXCHANGE_NAME });
    made.resume();
    await greeted;
    connection = made;
    return exchanged;
  };
  return {
    corpus: SOUND,
    words: ['\x01', '\x02', '\x03', '\0\0\0\x01', '\xff\xff\xff\xff'],
    async read(input) {
      if (ours === undefined || !ours.isOpen) ours = await connect();
      const stop = new AbortController();
      const asked = ours.ask(INFO_HASH.toString('hex') as never, NAR_BYTES, {
        isLineSilent: () => false,
        patienceMs: 5000,
        signal: stop.signal,
      });
      ours.receive(input);
      stop.abort();
      await asked;
    },
    finish: () => void connection?.destroy(),
  };
}
