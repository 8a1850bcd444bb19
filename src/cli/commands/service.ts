import { configured, type Config } from '../../config/load.ts';
import { configLocation } from '../../config/locations.ts';
import { lstat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { makeFolder } from '../../disk/make-folder.ts';
import { NarswarmError } from '../../errors.ts';
import { findInstallation, findNixGroup, findTools, isHidden } from '../../daemon/installation.ts';
import type { Endpoint } from '../../discovery/endpoint.ts';
import { SUBSTITUTER_PORT } from '../../wire/ports.ts';
import { systemdUnits, type Unit } from '../../daemon/systemd-units.ts';
import type { OriginOf } from '../options/configuration.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';

interface ServiceOptions extends CommonOptions {
  readonly print?: boolean;
  readonly user?: boolean;
  readonly output?: string;
  readonly force?: boolean;
  readonly keyFile?: string;
}

export function serviceCommand(): Command {
  const service = new Command('service')
    .summary('write systemd units')
    .description('write systemd units for the daemon, its HTTP port and the nightly update, for machines without NixOS')
    .option('--print', 'print them on stdout')
    .option('--user', 'units for systemctl --user, with this user’s config file and folders')
    .option('--output <dir>', 'write them as files into this folder')
    .option('--force', 'with --output: overwrite existing files')
    .option(
      '--key-file <file>',
      'publisher key to pass to the units, which cannot read files of root or users themselves',
    );
  addCommon(
    service,
    [
      'narswarm service --output /etc/systemd/system && systemctl daemon-reload',
      'narswarm service --output ~/.config/systemd/user --user',
      'narswarm service --print --key-file /etc/narswarm/publisher.key',
    ],
    [],
  );
  return service.action(
    command<ServiceOptions, []>(async ({ output, options, originOf, config }) => {
      const { print = false, user = false, output: dir, force = false, keyFile } = options;
      if (!print && dir === undefined)
        throw new NarswarmError('USAGE', 'no place for the units: give --print or --output DIR');
      if (dir !== undefined) assertKind(resolve(dir), user);
      const { program, hidden } = findInstallation({
        node: process.execPath,
        script: process.argv[1] ?? '',
        isSystem: !user,
      });
      const configFile = await namedConfig(config, originOf);
      const listen = passedAddresses(await config());
      const tools = findTools(process.env['PATH'] ?? '');
      const seen = [...hidden, ...(configFile === undefined || user ? [] : [configFile].filter(isHidden))];
      for (const warning of remarks(program, seen, tools.missing)) output.warn(warning);
      const units = systemdUnits({
        program,
        user,
        configFile,
        keyFile: keyFile === undefined ? undefined : resolve(keyFile),
        path: tools.folders.filter((folder) => user || !isHidden(folder)),
        seen,
        listen,
        group: user ? undefined : await findNixGroup(),
      });
      const files = dir === undefined ? [] : await writeUnits(units, resolve(dir), force);
      for (const [index, { name, text }] of units.entries()) {
        const file = files[index];
        output.result('unit', { name, text, file: file ?? null }, file ?? text);
      }
      output.note(`to start them: ${advice(user, listen.length > 0)}`);
    }),
  );
}

/** @throws USAGE for units of the system in a folder of systemd for those of users, and the other way round */
function assertKind(dir: string, user: boolean): void {
  const [, kind] = /\/systemd\/(system|user)$/.exec(dir) ?? [];
  if (kind === undefined || (kind === 'user') === user) return;
  const wayOut = user ? 'leave --user out' : 'give --user';
  throw new NarswarmError(
    'USAGE',
    `${dir} is for units of ${user ? 'the system' : 'users'}: ${wayOut}, or another --output`,
  );
}

/** Returns the config file that --config or NARSWARM_CONFIG names. Undefined for the default one. */
async function namedConfig(load: () => Promise<Config>, originOf: OriginOf): Promise<string | undefined> {
  const isNamed = originOf('config').source === 'cli' || configLocation(undefined).namedBy !== undefined;
  return isNamed ? (await load()).path : undefined;
}

/**
 * Returns the addresses that systemd opens for the daemon, as the modules of Nix do (nix/socket.nix). It opens ::1
 * itself, without which the unit would fail on a machine without IPv6. A publisher opens all of
 * them: it builds its hash map first, and Nix would wait for it at an open port.
 */
function passedAddresses(config: Config): Endpoint[] {
  const port = configured(config, 'substituter-port') ?? SUBSTITUTER_PORT;
  const hosts = configured(config, 'substituter-listen') ?? ['127.0.0.1'];
  const isLate = configured(config, 'scope') === 'off' || configured(config, 'publish') === true || port === 0;
  return isLate ? [] : hosts.filter((host) => host !== '::1').map((host) => ({ host, port }));
}

/** Writes the units. Writes nothing if one of them already exists, unless `force` is true. */
async function writeUnits(units: readonly Unit[], dir: string, force: boolean): Promise<string[]> {
  const files = units.map(({ name, text }) => ({ file: join(dir, name), text }));
  for (const { file } of force ? [] : files) {
    if (await isThere(file))
      throw new NarswarmError('USAGE', `${file} already exists: give --force to overwrite it, or another --output`);
  }
  try {
    await makeFolder(dir);
    for (const { file, text } of files) await writeFile(file, text, { flag: force ? 'w' : 'wx' });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('USAGE', `cannot write the units (${reason}): name another folder with --output`, {
      cause,
    });
  }
  return files.map(({ file }) => file);
}

async function isThere(file: string): Promise<boolean> {
  return lstat(file).then(
    () => true,
    () => false,
  );
}

/** Yields remarks to read before the units are started. */
function* remarks(
  program: readonly string[],
  hidden: readonly string[],
  missing: readonly string[],
): Generator<string> {
  const collectable = program.find((path) => path.startsWith('/nix/store/'));
  if (collectable !== undefined)
    yield `the units name ${collectable}, which Nix may collect: keep it in a profile, and write the units again after an upgrade`;
  const [first] = hidden;
  if (first !== undefined)
    yield `${first} is in a folder that services do not see; the units bind it into their view: better keep it elsewhere, such as in /opt or /etc/narswarm`;
  if (missing.length > 0)
    yield `${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not in PATH: install it before the units need it (git for flakes in a git tree, ssh for ssh-ng stores, systemd-notify for the daemon to start)`;
}

function advice(user: boolean, hasSocket: boolean): string {
  const systemctl = user ? 'systemctl --user' : 'systemctl';
  const names = [...(hasSocket ? ['narswarm.socket'] : []), 'narswarm.service', 'narswarm-update.timer'];
  return `${systemctl} daemon-reload; ${systemctl} enable --now ${names.join(' ')}`;
}
