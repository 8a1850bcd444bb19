import { randomBytes } from 'node:crypto';
import WebTorrent from 'webtorrent';
import { MAX_CONNECTIONS } from '../wire/bounds.ts';
import { newPeerId } from '../wire/protocol.ts';
import { listenToNobody } from './webtorrent-seams.ts';

/**
 * Makes a client that makes no connections by itself.
 *
 * @param port TCP port at which others reach us
 */
export function quietClient(port: number, onError: (error: Error) => void): WebTorrent {
  const client = new WebTorrent({
    torrentPort: { path: `\0narswarm-${randomBytes(8).toString('hex')}` }, // see listenToNobody
    peerId: newPeerId(),
    secure: 0, // no encryption: a Diffie-Hellman exchange takes most of a small NAR's time
    utp: false, // its sends stall at 60 MB/s on loopback and it needs a native build
    dht: false, // dht.ts makes one announcement per cohort, not one per NAR
    lsd: false, // lan.ts does this; WebTorrent's own ends the torrent on a socket error
    tracker: false,
    utPex: false, // would tell strangers about a NAR's peers
    natUpnp: false, // only the owner may open ports in a router
    natPmp: false,
    webSeeds: false, // URLs inside torrents are never followed
    maxConns: MAX_CONNECTIONS,
  });
  listenToNobody(client);
  client.on('error', onError);
  client.torrentPort = port;
  return client;
}
