/** Everything that stands still while the clients run: one closure, its seeders, servers, DHT and tracker. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeBinaryCache } from './binary-cache.ts';
import type { BinaryCache } from './binary-cache.ts';
import type { ClosureShape } from './closures.ts';
import { scriptPath, Service } from './process.ts';
import type { Argv, ProcessOptions } from './process.ts';
import { startSilence } from './silence.ts';
import type { Silence } from './silence.ts';
import { startTracker } from './tracker.ts';
import type { Tools } from './tools.ts';

export interface Scene extends AsyncDisposable {
  readonly cache: BinaryCache;
  readonly tools: Tools;
  /** For the files of the run; outputs go below it too. */
  readonly dir: string;
  /** `host:port` of peers that seed every NAR. */
  readonly peers: { readonly narswarm: string; readonly libtorrent: string | undefined };
  /** The seeding process of narswarm. */
  readonly seeder: Pick<Service, 'measure'>;
  /** `host:port` of a node of the private DHT. */
  readonly dht: string;
  /** Address of the hash map by its key alone. */
  readonly magnet: string;
  /** Address of the hash map over HTTP. */
  readonly mapUrl: string;
  /** The binary cache over HTTP. */
  readonly cacheUrl: string;
  /** The same cache behind a round trip of {@link ROUND_TRIP_MS}. */
  readonly delayedCacheUrl: string;
  readonly announceUrl: string;
  readonly silence: Silence;
}

/** Round trip to a cache on the same continent. */
const ROUND_TRIP_MS = 30;

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** A command line of the built program. */
export function narswarm(...args: string[]): Argv {
  return [process.execPath, MAIN, ...args];
}

/** Generates the closure in `dir` and starts all that serves it, on loopback. */
export async function setScene(
  shape: ClosureShape,
  dir: string,
  tools: Tools,
  options: ProcessOptions,
): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  await mkdir(dir, { recursive: true });
  const cache = await writeBinaryCache(shape, join(dir, 'cache'), join(dir, 'torrents'));
  const begin = (argv: Argv): Promise<Service> => Service.start(argv, options);
  const start = async (argv: Argv): Promise<Service> => stack.use(await begin(argv));

  const files = await start([tools.python.program, scriptPath('file_server.py'), cache.dir]);
  const server = ['127.0.0.1', String(files.ready['port'])];
  const proxy = [tools.python.program, scriptPath('delaying_proxy.py'), ...server, String(ROUND_TRIP_MS)] as const;
  const delayed = await start(proxy);
  const node = await start(narswarm('dht', '--listen', '127.0.0.1', '--json'));
  const dht = local(node.ready['dhtPort']);
  const publish = ['publish', '--json', '--store', cache.dir, '--root', `closure=${cache.rootPath}`];
  const keys = (name: string): string[] => ['--trusted-public-key', cache.publicKey, '--key', join(dir, name)];
  const network = ['--listen', '127.0.0.1', '--dht-bootstrap', dht, '--no-lan'];
  const silence = stack.use(
    await startSilence(cache, {
      python: tools.python.program,
      dir,
      start: begin,
      // A port of its own: the publisher below would be the peer that its hash map names.
      publisher: narswarm(...publish, ...keys('ended.key'), ...network, '--port', '0'),
    }),
  );
  const publisher = await start(narswarm(...publish, ...keys('publisher.key'), ...network));
  const { port, httpPort, address } = publisher.ready;
  const magnet = String(address);
  const python = tools.libtorrent?.program;
  const seed = [scriptPath('libtorrent_client.py'), 'seed', cache.torrentDir, join(cache.dir, 'nar')];
  const libtorrent = python === undefined ? undefined : await start([python, ...seed]);
  const tracker = stack.use(await startTracker(Number(port)));
  const scene = {
    cache,
    tools,
    dir,
    peers: {
      narswarm: local(port),
      libtorrent: libtorrent === undefined ? undefined : local(libtorrent.ready['port']),
    },
    seeder: publisher,
    dht,
    magnet,
    mapUrl: `http://${local(httpPort)}/${magnet.slice(magnet.indexOf('?'))}`,
    cacheUrl: `http://${local(files.ready['port'])}`,
    delayedCacheUrl: `http://${local(delayed.ready['port'])}`,
    announceUrl: tracker.announceUrl,
    silence,
  };
  const services = stack.move();
  return { ...scene, [Symbol.asyncDispose]: () => services.disposeAsync() };
}

function local(port: unknown): string {
  return `127.0.0.1:${Number(port)}`;
}
