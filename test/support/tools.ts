/**
 * Makes sure that the programs for tests and demo are installed: `node test/support/tools.ts nix aria2 libtorrent`.
 * On Debian as root it installs missing ones; elsewhere it names them in one line.
 */
import { execFileSync, spawnSync } from 'node:child_process';

const TOOLS: Readonly<Record<string, { check: readonly [string, ...string[]]; packageName: string }>> = {
  nix: { check: ['nix', '--version'], packageName: 'nix-bin' },
  aria2: { check: ['aria2c', '--version'], packageName: 'aria2' },
  libtorrent: { check: ['/usr/bin/python3', '-c', 'import libtorrent'], packageName: 'python3-libtorrent' },
  transmission: { check: ['transmission-cli', '--version'], packageName: 'transmission-cli' },
  rtorrent: { check: ['rtorrent', '-h'], packageName: 'rtorrent' },
  qbittorrent: { check: ['qbittorrent-nox', '--version'], packageName: 'qbittorrent-nox' },
  deluged: { check: ['sh', '-c', 'command -v deluged'], packageName: 'deluged' },
  deluge: { check: ['sh', '-c', 'command -v deluge-console'], packageName: 'deluge-console' },
  ctorrent: { check: ['sh', '-c', 'command -v ctorrent'], packageName: 'ctorrent' },
  openssl: { check: ['openssl', 'version'], packageName: 'openssl' },
  zeroconf: { check: ['/usr/bin/python3', '-c', 'import zeroconf'], packageName: 'python3-zeroconf' },
  chromium: { check: ['chromium', '--version'], packageName: 'chromium' },
  zsh: { check: ['zsh', '--version'], packageName: 'zsh' },
  fish: { check: ['fish', '--version'], packageName: 'fish' },
  groff: { check: ['groff', '--version'], packageName: 'groff-base' },
  mandoc: { check: ['sh', '-c', 'command -v mandoc'], packageName: 'mandoc' },
  nftables: { check: ['nft', '--version'], packageName: 'nftables' },
  iproute: { check: ['tc', '-V'], packageName: 'iproute2' },
  miniupnpd: { check: ['test', '-x', '/usr/sbin/miniupnpd'], packageName: 'miniupnpd-nftables' },
  nginx: { check: ['sh', '-c', 'command -v nginx || test -x /usr/sbin/nginx'], packageName: 'nginx-light' },
  exfat: {
    check: ['sh', '-c', 'command -v mount.exfat-fuse && command -v mkfs.exfat'],
    packageName: 'exfat-fuse exfatprogs',
  },
  ssh: {
    check: ['sh', '-c', 'command -v ssh && test -x /usr/sbin/sshd'],
    packageName: 'openssh-server openssh-client',
  },
  networkmanager: {
    check: ['sh', '-c', 'command -v dbus-daemon busctl && /usr/bin/python3 -c "import dbus, gi"'],
    packageName: 'dbus-daemon systemd python3-dbus python3-gi',
  },
  systemd: { check: ['systemd-analyze', '--version'], packageName: 'systemd' },
};

const missing = process.argv.slice(2).flatMap((name) => {
  const tool = TOOLS[name];
  if (tool === undefined) throw new Error(`${name} is not one of ${Object.keys(TOOLS).join(', ')}`);
  const [file, ...args] = tool.check;
  return spawnSync(file, args, { stdio: 'ignore' }).status === 0 ? [] : tool.packageName.split(' ');
});

if (missing.length > 0) {
  const canInstall = process.getuid?.() === 0 && spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status === 0;
  if (!canInstall) {
    process.stderr.write(
      `missing: ${missing.join(', ')} (names of Debian’s packages): install them and run this again\n`,
    );
    process.exit(1);
  }
  process.stderr.write(`installing ${missing.join(', ')} with apt-get, which may take a minute\n`);
  const quietly = {
    stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  execFileSync('apt-get', ['update', '-q'], quietly);
  execFileSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], quietly);
}
