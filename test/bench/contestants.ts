/**
 * The compared programs, each as the command line that fetches the closure. The others know in advance which files it
 * has, from .torrent files or a list of URLs. narswarm finds them: from the hash map, or narinfo by narinfo.
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClosureName } from './closures.ts';
import type { Argv } from './process.ts';
import { scriptPath } from './process.ts';
import { narswarm } from './scene.ts';
import type { Scene } from './scene.ts';
import type { Tools } from './tools.ts';

export interface Contestant {
  /** As `--only` takes it. */
  readonly name: string;
  readonly text: string;
  /** Contestants of one group do the same work; ratios are taken within it. */
  readonly group: 'peers' | 'http' | 'delayed' | 'silence' | 'rerun' | 'walk';
  readonly isNarswarm: boolean;
  /** The installed program that it needs; `narswarm` is always there. */
  readonly tool: keyof Tools | undefined;
  /** Folder of its NARs, below its output directory. */
  readonly narDir: string;
  /** True if an earlier run of this client, which does not count, fills the output directory. */
  readonly isRerun: boolean;
  /** False if it only finds out what to fetch. */
  readonly fetchesNars: boolean;
  /** The closures that it fetches. Default: all. */
  readonly closures?: readonly ClosureName[];
  /** The command that fills `out`, an empty directory. */
  command(scene: Scene, out: string): Promise<Argv> | Argv;
}

const OURS = { isNarswarm: true, tool: undefined, narDir: 'nar', isRerun: false, fetchesNars: true } as const;
const THEIRS = { isNarswarm: false, narDir: '.', isRerun: false, fetchesNars: true } as const;

/** The proxy between is one process: with large NARs it would be measured as well. */
const DELAYED = { group: 'delayed', closures: ['small'] } as const;

/** In the order of the report. */
export const CONTESTANTS: readonly Contestant[] = [
  {
    ...OURS,
    name: 'narswarm-dht',
    text: 'narswarm, map by DHT',
    group: 'peers',
    command: (scene, out) => fromPeers(scene, out, ['--publisher', scene.magnet, '--dht-bootstrap', scene.dht]),
  },
  {
    ...OURS,
    name: 'narswarm-http-map',
    text: 'narswarm, map by HTTP',
    group: 'peers',
    command: (scene, out) => fromPeers(scene, out, ['--publisher', scene.mapUrl, '--no-dht']),
  },
  {
    ...THEIRS,
    name: 'libtorrent-narswarm',
    text: 'libtorrent from narswarm',
    group: 'peers',
    tool: 'libtorrent',
    command: (scene, out) => libtorrent(scene, out, scene.peers.narswarm),
  },
  {
    ...THEIRS,
    name: 'libtorrent-libtorrent',
    text: 'libtorrent from libtorrent',
    group: 'peers',
    tool: 'libtorrent',
    command: (scene, out) => libtorrent(scene, out, scene.peers.libtorrent ?? ''),
  },
  {
    ...THEIRS,
    name: 'aria2-narswarm',
    text: 'aria2 from narswarm',
    group: 'peers',
    tool: 'aria2',
    command: aria2FromPeers,
  },
  {
    ...OURS,
    name: 'narswarm-upstream',
    text: 'narswarm, HTTP alone',
    group: 'http',
    command: (scene, out) => fetchRoot(scene, out, ['--from', scene.cacheUrl, '--no-dht']),
  },
  {
    ...THEIRS,
    name: 'aria2-http',
    text: 'aria2, HTTP',
    group: 'http',
    tool: 'aria2',
    command: (scene, out) => aria2FromHttp(scene, out, scene.cacheUrl),
  },
  {
    ...THEIRS,
    name: 'curl-http',
    text: 'curl, HTTP',
    group: 'http',
    tool: 'curl',
    command: (scene, out) => curlFromHttp(scene, out, scene.cacheUrl),
  },
  {
    ...OURS,
    ...DELAYED,
    name: 'narswarm-delayed',
    text: 'narswarm, HTTP, 30 ms',
    command: (scene, out) => fetchRoot(scene, out, ['--from', scene.delayedCacheUrl, '--no-dht']),
  },
  {
    ...THEIRS,
    ...DELAYED,
    name: 'aria2-delayed',
    text: 'aria2, HTTP, 30 ms',
    tool: 'aria2',
    command: (scene, out) => aria2FromHttp(scene, out, scene.delayedCacheUrl),
  },
  {
    ...THEIRS,
    ...DELAYED,
    name: 'curl-delayed',
    text: 'curl, HTTP, 30 ms',
    tool: 'curl',
    command: (scene, out) => curlFromHttp(scene, out, scene.delayedCacheUrl),
  },
  {
    ...OURS,
    name: 'narswarm-silent-mirror',
    text: 'narswarm, silent mirror',
    group: 'silence',
    command: (scene, out) => withSilence(scene, out, ['--publisher', silentMirror(scene), '--no-dht']),
  },
  {
    ...OURS,
    name: 'narswarm-dead-dht',
    text: 'narswarm, dead DHT',
    group: 'silence',
    command: (scene, out) =>
      withSilence(scene, out, ['--publisher', scene.magnet, '--dht-bootstrap', scene.silence.dht]),
  },
  {
    ...OURS,
    name: 'narswarm-silent-peer',
    text: 'narswarm, silent peer',
    group: 'silence',
    command: (scene, out) => withSilence(scene, out, ['--peer', scene.silence.server, '--no-dht']),
  },
  {
    ...OURS,
    name: 'narswarm-hanging-peer',
    text: 'narswarm, hanging peer',
    group: 'silence',
    command: (scene, out) =>
      withSilence(scene, out, ['--publisher', scene.silence.mapUrl, '--peer', scene.silence.peer, '--no-dht']),
  },
  {
    ...OURS,
    name: 'narswarm-rerun',
    text: 'narswarm, all in its store',
    group: 'rerun',
    isRerun: true,
    command: (scene, out) => fromPeers(scene, out, ['--publisher', scene.magnet, '--dht-bootstrap', scene.dht]),
  },
  {
    ...OURS,
    name: 'narswarm-walk',
    text: 'narswarm, walk over HTTP',
    group: 'walk',
    fetchesNars: false,
    command: (scene, out) => fetchRoot(scene, out, ['--from', scene.cacheUrl, '--no-dht', '--dry-run']),
  },
];

function fetchRoot({ cache }: Scene, out: string, flags: readonly string[]): Argv {
  const common = ['--store', out, '--no-copy', '--no-lan', '--listen', '127.0.0.1', '--json'];
  return narswarm('fetch', cache.rootPath, '--trusted-public-key', cache.publicKey, ...common, ...flags);
}

function fromPeers(scene: Scene, out: string, flags: readonly string[]): Argv {
  return fetchRoot(scene, out, ['--no-upstream', '--peer', scene.peers.narswarm, ...flags]);
}

/** The same fetch as `narswarm-upstream`, with sources besides that say nothing. */
function withSilence(scene: Scene, out: string, flags: readonly string[]): Argv {
  return fetchRoot(scene, out, ['--from', scene.cacheUrl, ...flags]);
}

function silentMirror({ silence, magnet }: Scene): string {
  return `http://${silence.server}/${magnet.slice(magnet.indexOf('?'))}`;
}

function libtorrent({ cache, tools }: Scene, out: string, peer: string): Argv {
  return [tools.libtorrent?.program ?? '', scriptPath('libtorrent_client.py'), 'fetch', cache.torrentDir, out, peer];
}

/** aria2 takes no peer address, so a tracker has to name the one there is. */
async function aria2FromPeers({ cache, announceUrl }: Scene, out: string): Promise<Argv> {
  const torrents = (await readdir(cache.torrentDir)).map((name) => join(cache.torrentDir, name));
  const atOnce = `--max-concurrent-downloads=${torrents.length}`;
  return [...ARIA2, ...ARIA2_PEERS, `--dir=${out}`, `--bt-tracker=${announceUrl}`, atOnce, ...torrents];
}

async function aria2FromHttp({ cache, dir }: Scene, out: string, cacheUrl: string): Promise<Argv> {
  const list = join(dir, 'aria2-urls');
  await writeFile(list, cache.nars.map(({ name }) => `${cacheUrl}/nar/${name}\n`).join(''));
  return [...ARIA2, `--dir=${out}`, `--input-file=${list}`, '-j', '16', '-x', '4'];
}

const ARIA2 = ['aria2c', '--no-conf', '--quiet', '--file-allocation=none', '--auto-save-interval=0'] as const;
const ARIA2_PEERS = [
  '--seed-time=0',
  '--enable-dht=false',
  '--enable-dht6=false',
  '--bt-enable-lpd=false',
  '--enable-peer-exchange=false',
  '--bt-max-open-files=4096',
  '--bt-max-peers=0',
];

async function curlFromHttp({ cache, dir }: Scene, out: string, cacheUrl: string): Promise<Argv> {
  const config = join(dir, 'curl-config');
  const entries = cache.nars.map(({ name }) => `url = "${cacheUrl}/nar/${name}"\noutput = "${join(out, name)}"\n`);
  await writeFile(config, entries.join(''));
  return ['curl', '--disable', '--silent', '--fail', '--parallel', '--parallel-max', '16', '--config', config];
}
