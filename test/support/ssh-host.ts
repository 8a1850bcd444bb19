/** Servers in network namespaces that only an sshd makes reachable, as a deploy host sees them. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from './lab.ts';
import type { Host } from './namespaces.ts';
import { requisites } from './lab.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const SSHD = '/usr/sbin/sshd';

/** The user's key, and what ssh needs to use it. */
export interface SshUser {
  readonly publicKeyFile: string;
  /** Options of ssh, for NIX_SSHOPTS. */
  readonly sshOptions: string;
}

/** Makes the key of a user who may log in everywhere. */
export async function makeSshUser(lab: Lab): Promise<SshUser> {
  const key = join(await lab.folder('ssh'), 'key');
  run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', key);
  const options = ['-F', '/dev/null', '-i', key, '-oUserKnownHostsFile=/dev/null', '-oStrictHostKeyChecking=no'];
  return { publicKeyFile: `${key}.pub`, sshOptions: [...options, '-oLogLevel=INFO'].join(' ') };
}

export interface SshHostOptions {
  readonly user: SshUser;
  /** Programs of the host besides those of the system. Default: both. */
  readonly programs?: readonly ('narswarm' | 'node')[];
  /** Keys that its Nix trusts. Default: none. */
  readonly trustedKeys?: readonly string[];
  /** Further variables of its shells. Default: none. */
  readonly env?: Readonly<Record<string, string>>;
  /** Further lines of sshd_config. Default: none. */
  readonly config?: readonly string[];
}

/** A server with an sshd, a Nix store and a home of its own. */
export class SshHost {
  /** Its name for ssh. */
  readonly name: string;
  /** The root of its Nix store. */
  readonly root: string;
  readonly host: Host;
  readonly dir: string;

  private constructor(host: Host, dir: string) {
    this.host = host;
    this.dir = dir;
    this.name = `root@${host.ipv4}`;
    this.root = join(dir, 'root');
  }

  /** Starts the sshd, and waits until it answers. It ends with the host's namespace. */
  static async start(lab: Lab, host: Host, options: SshHostOptions): Promise<SshHost> {
    const dir = await lab.folder('server');
    const server = new SshHost(host, dir);
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    const programs = options.programs ?? ['narswarm', 'node'];
    if (programs.includes('narswarm')) symlinkSync(MAIN, join(bin, 'narswarm'));
    if (programs.includes('node')) symlinkSync(process.execPath, join(bin, 'node'));
    const conf = join(dir, 'nix-conf');
    await mkdir(conf);
    const keys = options.trustedKeys ?? [];
    await writeFile(
      join(conf, 'nix.conf'),
      `substituters =\ntrusted-public-keys = ${keys.join(' ')}\nbuild-users-group =\n`,
    );
    run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(dir, 'host-key'));
    const authorized = join(dir, 'authorized');
    await writeFile(authorized, await readFile(options.user.publicKeyFile));
    await chmod(authorized, 0o600);
    const env = {
      ...options.env,
      PATH: `${bin}:${options.env?.['PATH'] ?? process.env['PATH'] ?? ''}`,
      HOME: dir, // not that of the person who runs the test, whose shell may start slowly
      STATE_DIRECTORY: join(dir, 'state'),
      XDG_CACHE_HOME: join(dir, 'cache'),
      NARSWARM_CONFIG: lab.configFile,
      NIX_CONF_DIR: conf,
      NIX_REMOTE: `local?root=${server.root}`,
    };
    const settings = [
      'ListenAddress 0.0.0.0',
      `HostKey ${join(dir, 'host-key')}`,
      `AuthorizedKeysFile ${authorized}`,
      'PermitRootLogin yes',
      'StrictModes no',
      'UsePAM no',
      'PidFile none',
      `SetEnv ${Object.entries(env)
        .map(([name, value]) => `"${name}=${value}"`)
        .join(' ')}`,
      ...(options.config ?? []),
    ];
    await writeFile(join(dir, 'sshd_config'), `${settings.join('\n')}\n`);
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    const [program, ...wrapped] = host.wrapper;
    const child = spawn(program, [...wrapped, SSHD, '-D', '-e', '-f', join(dir, 'sshd_config')], { stdio: 'pipe' });
    let words = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (words += text));
    while (!words.includes('Server listening')) {
      assert.equal(child.exitCode, null, `sshd ended: ${words}`);
      await Promise.race([once(child.stderr, 'data'), once(child, 'exit')]);
    }
    return server;
  }

  /** The file store of what is arriving. */
  get incoming(): string {
    return join(this.dir, 'state/push/incoming');
  }

  /** Returns true if a process with this word on its command line runs there. */
  runs(word: string): boolean {
    const { stdout } = spawnSync('ip', ['netns', 'pids', this.host.namespace], { encoding: 'utf8' });
    return stdout.split('\n').some((pid) => {
      try {
        return pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(word);
      } catch {
        return false; // it has ended
      }
    });
  }

  isValid(path: string): boolean {
    return spawnSync('nix-store', ['--store', this.root, '--check-validity', path], { stdio: 'ignore' }).status === 0;
  }

  /** Returns the closure of a path in its Nix store. Fails if it is not valid. */
  requisites(path: string): string[] {
    return requisites(this.root, path);
  }
}

function run(...[file, ...args]: readonly [string, ...string[]]): void {
  const result = spawnSync(file, args, { encoding: 'utf8' });
  assert.equal(result.status, 0, `${file}: ${result.error?.message ?? result.stderr}`);
}
