/** Sources that accept and stay silent: a mirror, a DHT, a peer. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { startSilentPeer } from '../support/silent-peer.ts';
import type { BinaryCache } from './binary-cache.ts';
import { scriptPath, Service } from './process.ts';
import type { Argv } from './process.ts';

export interface Silence extends AsyncDisposable {
  /** `host:port` that accepts TCP and says nothing. */
  readonly server: string;
  /** `host:port` of a node of a DHT that answers nothing. */
  readonly dht: string;
  /** Address of a hash map over HTTP that names every NAR, and no peer that is there. */
  readonly mapUrl: string;
  /** `host:port` of a peer that claims to have every NAR and sends nothing. */
  readonly peer: string;
}

export interface SilenceOptions {
  readonly python: string;
  readonly dir: string;
  readonly start: (argv: Argv) => Promise<Service>;
  /** The command of a publisher of the cache, with a key of its own. */
  readonly publisher: Argv;
}

/** Starts them on loopback. Publishes the hash map once, by a publisher that has ended when this returns. */
export async function startSilence(cache: BinaryCache, options: SilenceOptions): Promise<Silence> {
  const { python, dir, start, publisher } = options;
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startSilentPeer());
  const socket = createSocket('udp4');
  stack.defer(() => void socket.close());
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const mirrorDir = join(dir, 'lone-map');
  let query: string;
  {
    await using publishing = await start(publisher);
    const address = String(publishing.ready['address']);
    query = address.slice(address.indexOf('?'));
    await cp(join(cache.dir, 'narswarm', 'published', '0'), mirrorDir, { recursive: true });
  }
  const mirror = await start([python, scriptPath('file_server.py'), mirrorDir]);
  stack.use(mirror);
  const peer = stack.use(await start([python, scriptPath('hanging_peer.py'), cache.torrentDir]));
  const silent = {
    server: server.address,
    dht: `127.0.0.1:${socket.address().port}`,
    mapUrl: `http://127.0.0.1:${Number(mirror.ready['port'])}/${query}`,
    peer: `127.0.0.1:${Number(peer.ready['port'])}`,
  };
  const started = stack.move();
  return { ...silent, [Symbol.asyncDispose]: () => started.disposeAsync() };
}
