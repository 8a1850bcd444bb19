/**
 * The systemd units for machines without NixOS: a daemon with its socket, and an update with its timer. nix/units.json has the settings
 * that they share with the NixOS module (nix/module.nix). The reasons for these settings:
 *
 * - `system` needs the rights of the system's manager: a user of the unit's own, folders, and a view of the file system
 *   in which only those are writable. The Nix store is readable, and changed only through nix-daemon. There is no
 *   ProtectProc and no ProcSubset: /proc shows which files belong to a process that has ended. Its git may
 *   read trees of other users, such as root's /etc/nixos, which subscriptions may name.
 *   The config file may be missing: only its folder is named.
 * - `filters` work for the services of a user, too. Node lists the network's interfaces by AF_NETLINK. There is no
 *   MemoryDenyWriteExecute: V8 writes the code that it runs. setpriority, one of @resources, lets NARs be read at idle
 *   priority.
 * - `start` restarts a service after any number of failures: at boot the address to listen on or the network may not
 *   exist yet, and another program may use a port for some time.
 * - `daemon` does not restart after status 2: a malformed config file does not correct itself. A daemon with 10,000
 *   NARs takes 350 MB; MemoryMax limits what strangers can make of that.
 *   It tells systemd that it is ready, and every 90 s that its event loop runs. `systemd-notify` does so for it, hence
 *   NotifyAccess. It is ready once its hash map is built, which may take long the first time. Its store survives SIGKILL.
 *   The shell has `kill` on every system.
 * - `socket` keeps the HTTP port open while the daemon is restarted. A daemon that cannot start would keep Nix waiting: after ten
 *   attempts in a minute systemd closes the port, and Nix asks its next cache. An address need not exist yet.
 * - `update` takes only processor time and disk bandwidth that nobody else wants. An interrupted update has not failed:
 *   the next one continues. Of failures, only a missing port or address (9) is retried before the next night. Most of
 *   its memory is used by Nix, which evaluates a system in some gigabytes.
 */
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import units from '../../nix/units.json' with { type: 'json' };

/** The settings in which the units of two machines differ. */
export interface UnitsOptions {
  /** The command line that starts narswarm, without a command: absolute paths. */
  readonly program: readonly string[];
  /** True for services of a user (`systemctl --user`), with the folders and the config file of that user. */
  readonly user: boolean;
  /** Config file, an absolute path. Default: the system's, or the user's own. */
  readonly configFile?: string | undefined;
  /**
   * Publisher key, an absolute path. The system's units get it as a credential, since they cannot read root's files.
   */
  readonly keyFile?: string | undefined;
  /** Folders of programs that narswarm calls, to come before the usual ones in PATH. */
  readonly path?: readonly string[];
  /** Addresses of the HTTP port that systemd opens for the daemon. Default: none, and there is no unit of a socket. */
  readonly listen?: readonly Endpoint[];
  /** Files and folders that the system's units would not see otherwise. */
  readonly seen?: readonly string[];
  /** The group that may talk to the Nix daemon, if not everybody may. */
  readonly group?: string | undefined;
}

/** A unit file. */
export interface Unit {
  /** Its name, such as `narswarm-update.timer`. */
  readonly name: string;
  readonly text: string;
}

type Value = string | number | boolean | readonly string[];
type Section = Readonly<Record<string, Value>>;

/**
 * Names the folder in which the system's services look for a config file. Unlike ConfigurationDirectory=, it makes none that
 * belongs to the service: its config file names commands.
 */
const CONFIGURATION = 'CONFIGURATION_DIRECTORY=/etc/narswarm';
/** Usual folders of `nix`: those of Nix's installer and of distributions. */
const PATH = [
  '/nix/var/nix/profiles/default/bin',
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
];
const CREDENTIAL = 'publisher-key';

/** Returns the daemon, its socket, the update and its timer. */
export function systemdUnits(options: UnitsOptions): Unit[] {
  const { configFile } = options;
  const start = [...options.program, ...(configFile === undefined ? [] : ['--config', configFile])];
  const common = serviceOf(options);
  const { listen = [] } = options;
  const online: Section = options.user
    ? {}
    : { Wants: 'network-online.target', After: 'network-online.target nix-daemon.socket' };
  return [
    unit('narswarm.service', {
      Unit: { Description: 'narswarm: seeds Nix closures', ...online, ...units.start },
      Service: { ...common, ...units.daemon, ExecStart: commandLine([...start, 'daemon']) },
      Install: { WantedBy: options.user ? 'default.target' : 'multi-user.target' },
    }),
    ...(listen.length === 0 ? [] : [socketOf(listen)]),
    unit('narswarm-update.service', {
      Unit: { Description: 'narswarm: fetches the subscriptions', ...online, ...units.start },
      Service: { ...common, ...units.update, ExecStart: commandLine([...start, 'update']) },
    }),
    unit('narswarm-update.timer', {
      Unit: { Description: 'narswarm: the nightly update' },
      Timer: units.timer,
      Install: { WantedBy: 'timers.target' },
    }),
  ];
}

function socketOf(listen: readonly Endpoint[]): Unit {
  return unit('narswarm.socket', {
    Unit: { Description: 'narswarm: the binary cache of this machine' },
    Socket: { ...units.socket, ListenStream: listen.map(formatEndpoint) },
    Install: { WantedBy: 'sockets.target' },
  });
}

function serviceOf({ user, configFile, keyFile, path = [], seen = [], group }: UnitsOptions): Section {
  const folders = [...(user ? ['%h/.nix-profile/bin'] : []), ...PATH];
  // Programs found elsewhere come first, as for the user who wrote the units.
  const found = path.filter((folder) => !folders.includes(folder)).map(escapeSpecifiers);
  const inPath = quoteEscaped(`PATH=${[...found, ...folders].join(':')}`);
  if (user) {
    const key = keyFile === undefined ? [] : [quote(`NARSWARM_KEY=${keyFile}`)];
    return { ...units.filters, Environment: [inPath, ...key] };
  }
  const key = keyFile === undefined ? [] : [`NARSWARM_KEY=%d/${CREDENTIAL}`];
  return {
    ...units.system,
    ...units.filters,
    ...hiddenPlaces(seen),
    ...(group !== undefined && { SupplementaryGroups: group }),
    Environment: [inPath, ...(configFile === undefined ? [CONFIGURATION] : []), ...units.system.Environment, ...key],
    ...(keyFile !== undefined && { LoadCredential: `${CREDENTIAL}:${escapeSpecifiers(keyFile)}` }),
  };
}

/** systemd.exec(5): `tmpfs` hides all of these folders, except for paths bound into them. */
function hiddenPlaces(seen: readonly string[]): Section {
  if (seen.length === 0) return {};
  return { ProtectHome: 'tmpfs', BindReadOnlyPaths: seen.map(quote) };
}

function unit(name: string, sections: Readonly<Record<string, Section>>): Unit {
  const text = Object.entries(sections).map(([title, section]) => {
    const lines = Object.entries(section).flatMap(([key, value]) => assignments(key, value));
    return `[${title}]\n${lines.join('\n')}\n`;
  });
  return { name, text: `# ${name}\n${text.join('\n')}` };
}

function assignments(key: string, value: Value): string[] {
  const values = Array.isArray(value) ? value : [value];
  return values.map((one) => `${key}=${one === true ? 'yes' : one === false ? 'no' : String(one)}`);
}

/** systemd.service(5), “Command lines”: `$` starts a variable, and `%` a specifier. */
function commandLine(args: readonly string[]): string {
  return args.map((arg) => quote(arg).replaceAll('$', () => '$$')).join(' ');
}

/** Quotes a word: systemd.syntax(7), “Quoting”. */
function quote(text: string): string {
  return quoteEscaped(escapeSpecifiers(text));
}

function quoteEscaped(escaped: string): string {
  return /^[\w%@+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

function escapeSpecifiers(text: string): string {
  return text.replaceAll('%', '%%');
}
