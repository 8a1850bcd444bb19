import { randomBytes } from 'node:crypto';
import WebTorrent from 'webtorrent';
import { MAX_CONNECTIONS } from '../wire/bounds.ts';
import { newPeerId } from '../wire/protocol.ts';
import { listenToNobody } from './webtorrent-seams.ts';

/**
 * Makes a client that talks to nobody by itself.
 *
 * @param port TCP port at which others reach us
 */
export function quietClient(port: number, onError: (error: Error) => void): WebTorrent {
  const client = new WebTorrent({
    torrentPort: { path: `\0narswarm-${randomBytes(8).toString('hex')}` }, // see listenToNobody
    peerId: newPeerId(),
    secure: 0, // connections of ours are in the clear: a Diffie-Hellman exchange each is most of a small NAR's time
    utp: false, // its sends stall at 60 MB/s on loopback and it needs a native build
    dht: false, // one announce a cohort, made by dht.ts; not one a NAR
    lsd: false, // as above, by lan.ts; WebTorrent's ends the torrent on a socket error
    tracker: false,
    utPex: false, // would hand a NAR's peers on to strangers
    natUpnp: false, // opening ports in a router is the owner's decision
    natPmp: false,
    webSeeds: false, // URLs inside torrents are never followed
    maxConns: MAX_CONNECTIONS,
  });
  listenToNobody(client);
  client.on('error', onError);
  client.torrentPort = port;
  return client;
}
