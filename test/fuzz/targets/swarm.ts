import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { chunkStore, MemoryStorage } from '../../../src/swarm/chunk-store.ts';
import { MetadataTurns } from '../../../src/swarm/metadata-turns.ts';
import { OpenTorrents } from '../../../src/swarm/open-torrents.ts';
import type { OpenTorrent } from '../../../src/swarm/open-torrent.ts';
import { DownloadPeers } from '../../../src/swarm/download-peers.ts';
import { quietClient } from '../../../src/swarm/webtorrent-client.ts';
import { PeerTable } from '../../../src/discovery/peer-table.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';
import { idleSocket } from '../../support/idle-socket.ts';
import { handshakeOf, ID, message, numbers } from '../../support/raw-peer.ts';
import { torrentOf } from '../../swarm/swarm-fixture.ts';
import type { FuzzTarget } from '../target.ts';

/** Three pieces, the last one short. */
const BYTES = Buffer.alloc(70_000, 5);
const BLOCK = 16 * 1024;

export const SOUND = [
  message(ID.UNCHOKE),
  message(ID.INTERESTED),
  message(ID.CHOKE),
  message(ID.HAVE, numbers(2)),
  message(ID.HAVE_ALL),
  message(ID.BITFIELD, Buffer.of(0xe0)),
  message(ID.REQUEST, numbers(0, 16_384, BLOCK)),
  message(ID.CANCEL, numbers(0, 16_384, BLOCK)),
  message(ID.REJECT, numbers(0, 0, BLOCK)),
  message(ID.PIECE, Buffer.concat([numbers(0, 0), Buffer.alloc(BLOCK, 5)])),
  message(ID.PIECE, Buffer.concat([numbers(1, 0), Buffer.alloc(64)])),
  message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai7e6:ut_pexi0ee13:metadata_sizei99ee')),
  message(ID.EXTENDED, Buffer.from('\0d1:md11:ut_metadatai0eee')),
  message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei0e5:piecei0ee')),
  message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei1e5:piecei0e10:total_sizei99eexxxx')),
  message(ID.EXTENDED, Buffer.from('\x01d8:msg_typei2e5:piecei0ee')),
  message(ID.EXTENDED, Buffer.concat([Buffer.of(2), numbers(2)])),
];

/**
 * The peer protocol (BEP 3, 6, 9, 10), to the real WebTorrent behind a connection of ours: a seed, a download, and a
 * torrent whose metadata is wanted. An exception of WebTorrent in a stream's handler would end the process.
 */
export function swarm(): FuzzTarget {
  const client = quietClient(1, () => undefined);
  const torrents = new OpenTorrents(client, { serves: 'anyone' });
  let unexpected: unknown;
  process.on('uncaughtException', (error) => (unexpected ??= error));
  let opened: readonly OpenTorrent[] = [];
  let count = 0;
  const storeOf = (pieceLength: number): object =>
    chunkStore(pieceLength, BYTES.length, new MemoryStorage(pieceLength));
  const open = (): OpenTorrent[] => {
    const peers = new PeerTable();
    // Other bytes each time, since a download that is complete asks for nothing more.
    const torrent = torrentOf(Buffer.concat([BYTES, numbers(count)]));
    const seed = torrents.open(torrent.infoHash, torrent, {
      skipVerify: true,
      preloadedStore: storeOf(torrent.pieceLength),
    });
    const other = torrentOf(Buffer.concat([BYTES, numbers(~count)]));
    const download = torrents.open(other.infoHash, other, { preloadedStore: storeOf(other.pieceLength) });
    void new DownloadPeers(download, { peers, backlog: torrents.backlog });
    const unknown = createHash('sha1').update(String(count)).digest('hex') as InfoHash;
    const read = torrents.open(unknown, undefined, { deselect: true });
    void new MetadataTurns(read);
    return [seed, download, read];
  };
  const feed = async (torrent: OpenTorrent, input: Buffer): Promise<void> => {
    await new Promise<void>((resolve) => torrent.whenNamed(resolve));
    const socket = idleSocket();
    const head = handshakeOf(torrent.infoHash);
    const connection = torrent.connect(socket, {
      id: `127.0.0.1:${++count}`,
      remoteAddress: '127.0.0.1',
      remotePort: count,
      head,
    });
    const middle = input.length >> 1;
    await nextTurn();
    socket.push(input.subarray(0, middle));
    socket.push(input.subarray(middle));
    await nextTurn();
    await nextTurn();
    connection?.destroy();
  };
  return {
    share: 0.05, // each input takes a millisecond
    corpus: [Buffer.concat(SOUND), ...SOUND],
    words: ['\0\0\0\x05\x04', '\0\0\0\x0d\x06', '\0\0\0\x01\x0e', '\0\0\0\x20\x14\0', 'd1:m', 'e', '\xff\xff\xff\xff'],
    async read(input) {
      if (opened.length === 0 || opened.some(({ isClosed }) => isClosed)) opened = open();
      await Promise.all(opened.map((torrent) => feed(torrent, input)));
      if (unexpected !== undefined) throw unexpected;
    },
    finish: () => new Promise((resolve) => client.destroy(() => resolve())),
  };
}
