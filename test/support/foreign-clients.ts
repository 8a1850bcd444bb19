/** Other BitTorrent clients as Debian has them, started with options that keep them to a private DHT. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import bencode from 'bencode';

/** The Python of Debian's python3-libtorrent. */
const PYTHON = '/usr/bin/python3';
const LIBTORRENT_CLIENT = fileURLToPath(new URL('libtorrent_client.py', import.meta.url));

/** The task of a client. */
export interface ClientTask {
  /** Its own folder; the file goes below {@link ClientTask.files}. */
  readonly dir: string;
  readonly files: string;
  /** A .torrent file or a magnet link. */
  readonly torrent: string;
  /** TCP and UDP port to listen on. */
  readonly port: number;
  /** Nodes of the DHT. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
}

/** A client's command line, after it has written its configuration. It downloads, then seeds until it is killed. */
export interface ForeignClient {
  readonly name: string;
  /** The package of Debian, and a command line that succeeds if it is installed. */
  readonly debianPackage: string;
  readonly check: readonly [string, ...string[]];
  /** Whether it finds peers by a magnet link in the DHT; ctorrent knows neither. */
  readonly hasDht: boolean;
  command(task: ClientTask): Promise<readonly [string, ...string[]]>;
}

const aria2: ForeignClient = {
  name: 'aria2',
  debianPackage: 'aria2',
  check: ['aria2c', '--version'],
  hasDht: true,
  command: async ({ dir, files, torrent, port, nodes: [node] }) => [
    'aria2c',
    '--no-conf',
    '--enable-dht=true',
    `--dht-entry-point=${node?.host}:${node?.port}`,
    `--dht-file-path=${join(dir, 'dht.dat')}`,
    `--dht-listen-port=${port}`,
    `--listen-port=${port}`,
    '--check-integrity=true',
    '--seed-ratio=0.0',
    '--file-allocation=none',
    '--summary-interval=0',
    `--dir=${files}`,
    torrent,
  ],
};

const transmission: ForeignClient = {
  name: 'Transmission',
  debianPackage: 'transmission-cli',
  check: ['transmission-cli', '--version'],
  hasDht: true,
  async command({ dir, files, torrent, port, nodes }) {
    const settings = {
      'dht-enabled': true,
      'lpd-enabled': false,
      'utp-enabled': false,
      'port-forwarding-enabled': false,
      'rpc-enabled': false,
      'peer-port': port,
    };
    await writeFile(join(dir, 'settings.json'), JSON.stringify(settings));
    // It asks known nodes every two seconds, and those of a list of routers every fifteen.
    const known = { id: Buffer.alloc(20, 't'), nodes: Buffer.concat(nodes.map(compactNode)) };
    await writeFile(join(dir, 'dht.dat'), bencode.encode(known));
    return ['transmission-cli', '--config-dir', dir, '--download-dir', files, '--port', String(port), torrent];
  },
};

/** Address and port of a node (BEP 5). */
function compactNode({ host, port }: ClientTask['nodes'][number]): Buffer {
  return Buffer.from([...host.split('.').map(Number), port >> 8, port & 0xff]);
}

const rtorrent: ForeignClient = {
  name: 'rtorrent',
  debianPackage: 'rtorrent',
  check: ['rtorrent', '-h'],
  hasDht: true,
  async command({ dir, files, torrent, port, nodes }) {
    const session = join(dir, 'session');
    await mkdir(session);
    const lines = [
      `directory.default.set = ${files}`,
      `session.path.set = ${session}`,
      `network.port_range.set = ${port}-${port}`,
      'network.port_random.set = no',
      `dht.port.set = ${port}`,
      'dht.mode.set = on',
      'pieces.hash.on_completion.set = no',
      'system.daemon.set = true',
      ...nodes.map((node, index) => `schedule2 = node${index}, 1, 0, "dht.add_node=${node.host}:${node.port}"`),
      `schedule2 = load, 3, 0, "load.start=\\"${torrent}\\""`,
    ];
    const file = join(dir, 'rtorrent.rc');
    await writeFile(file, `${lines.join('\n')}\n`);
    return ['rtorrent', '-n', '-o', `import=${file}`];
  },
};

const qbittorrent: ForeignClient = {
  name: 'qBittorrent',
  debianPackage: 'qbittorrent-nox',
  check: ['qbittorrent-nox', '--version'],
  hasDht: true,
  async command({ dir, files, torrent, port }) {
    const lines = [
      '[LegalNotice]',
      'Accepted=true',
      '[BitTorrent]',
      `Session\\DefaultSavePath=${files}`,
      `Session\\Port=${port}`,
      'Session\\LSDEnabled=false',
      'Session\\BTProtocol=TCP',
      '[Network]',
      'PortForwardingEnabled=false',
      '[Preferences]',
      'WebUI\\Enabled=false',
    ];
    const config = join(dir, 'qBittorrent', 'config');
    await mkdir(config, { recursive: true });
    await writeFile(join(config, 'qBittorrent.conf'), `${lines.join('\n')}\n`);
    return ['qbittorrent-nox', `--profile=${dir}`, `--save-path=${files}`, torrent];
  },
};

const deluge: ForeignClient = {
  name: 'Deluge',
  debianPackage: 'deluge-console',
  check: ['sh', '-c', 'command -v deluged deluge-console'],
  hasDht: true,
  async command({ dir, files, torrent, port }) {
    const settings = {
      listen_ports: [port, port],
      random_port: false,
      dht: true,
      lsd: false,
      upnp: false,
      natpmp: false,
      utpex: true,
      download_location: files,
    };
    await writeFile(join(dir, 'core.conf'), `{"file": 1, "format": 1}${JSON.stringify(settings)}`);
    const script =
      `deluged -d -c "$1" -L none & ` +
      `until deluge-console -c "$1" "add -p $2 $3" 2>/dev/null | grep -q added; do sleep 0.5; done; wait`;
    return ['sh', '-c', script, 'sh', dir, files, torrent];
  },
};

const ctorrent: ForeignClient = {
  name: 'ctorrent',
  debianPackage: 'ctorrent',
  check: ['sh', '-c', 'command -v ctorrent'],
  hasDht: false,
  command: async ({ files, torrent, port }) => {
    const script = 'cd "$1" && exec ctorrent -e 24 -p "$2" "$3"';
    return ['sh', '-c', script, 'sh', files, String(port), torrent];
  },
};

const libtorrent: ForeignClient = {
  name: 'libtorrent',
  debianPackage: 'python3-libtorrent',
  check: [PYTHON, '-c', 'import libtorrent'],
  hasDht: true,
  command: async ({ files, torrent, port, nodes }) => {
    const addresses = nodes.map((node) => `${node.host}:${node.port}`);
    return [PYTHON, LIBTORRENT_CLIENT, files, torrent, String(port), ...addresses];
  },
};

export const FOREIGN_CLIENTS: readonly ForeignClient[] = [
  aria2,
  libtorrent,
  transmission,
  rtorrent,
  qbittorrent,
  deluge,
  ctorrent,
];

/** Host names and ports at which these clients look for the DHT. */
export const ROUTERS: readonly { readonly name: string; readonly port: number }[] = [
  { name: 'dht.libtorrent.org', port: 25401 },
  { name: 'router.bittorrent.com', port: 6881 },
];
