import Wire from 'bittorrent-protocol';
import { EXCHANGE_NAME, type NarExchange, useNarExchange } from '../../../src/swarm/nar-exchange.ts';
import { numbers } from '../../support/raw-peer.ts';
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
  let peer: Wire | undefined;
  let ours: NarExchange | undefined;
  const connect = (): NarExchange => {
    peer = new Wire('tcpOutgoing');
    peer.on('error', () => undefined);
    peer.peerExtendedMapping[EXCHANGE_NAME] = 1;
    return useNarExchange(
      peer,
      async (_, address) => (address === '' ? Buffer.alloc(NAR_BYTES) : undefined),
      () => undefined,
    );
  };
  return {
    corpus: SOUND,
    words: ['\x01', '\x02', '\x03', '\0\0\0\x01', '\xff\xff\xff\xff'],
    async read(input) {
      if (ours === undefined || !ours.isOpen) ours = connect();
      const stop = new AbortController();
      const asked = ours.ask(INFO_HASH.toString('hex') as never, NAR_BYTES, {
        isLineSilent: () => false,
        patienceMs: 5000,
        signal: stop.signal,
      });
      ours.receive(input);
      stop.abort();
      await asked;
      peer?.resume(); // what is answered is read
    },
    finish: () => peer?.destroy(),
  };
}
