/** Finds the values of a command's options: defaults < config file < environment < flags. */
import { isDeepStrictEqual } from 'node:util';
import { Command, InvalidArgumentError, type Option } from 'commander';
import { NarswarmError } from '../../errors.ts';
import { CONFIG_KEYS, isConfigKey, type ConfigKey, type Written } from '../../config/keys.ts';
import type { Config, Setting } from '../../config/load.ts';
import type { Place } from './places.ts';
import type { PublisherAddress } from '../../index/address.ts';

/** Sources of an option's value, the strongest last. */
export const SOURCES = ['default', 'config', 'env', 'cli'] as const;
export type Source = (typeof SOURCES)[number];

/** The origin of an option's value. */
export interface Origin {
  readonly source: Source;
  /** Its name in messages: `--store`, `/etc/narswarm/config.toml:3`, `NARSWARM_STORE`. Empty for a default. */
  readonly where: string;
}

/** Returns the origin of an option's value, by its name in commander (`dhtPort`). */
export type OriginOf = (option: string) => Origin;

/**
 * Commands that use the configured ports. A port can be used once: a fetch beside the daemon must not want the same
 * one.
 */
const SERVICES: ReadonlySet<string> = new Set(['daemon', 'publish', 'doctor']);
const PORTS: ReadonlySet<ConfigKey> = new Set(['port', 'dht-port', 'http-port']);
/** Options with the name of a key but another meaning. */
const OTHERS: Readonly<Record<string, readonly ConfigKey[]>> = {
  subscribe: ['publish'],
  torrent: ['peer'],
  fetch: ['yield'],
};
/** Options with the meaning of a key but another name. */
const RENAMED: Readonly<Record<string, Partial<Record<ConfigKey, string>>>> = { key: { key: '--file' } };

/** The program. Keeps the values that its commands have read from the environment and the config file. */
export class Program extends Command {
  /** For each command: the places of option values that were not given as flags. */
  readonly whereabouts = new Map<Command, ReadonlyMap<string, string>>();
  #config: Promise<Config> | undefined;
  #followed: () => readonly PublisherAddress[] = () => [];
  #loaded: Config | undefined;

  /** Returns the configuration, read once. @throws USAGE if it is malformed */
  config(): Promise<Config> {
    return (this.#config ??= this.#load());
  }

  /** The publishers of the configuration. None before it has been read. */
  get followed(): readonly PublisherAddress[] {
    return this.#followed();
  }

  /** The configuration. Undefined before it has been read. */
  get loaded(): Config | undefined {
    return this.#loaded;
  }

  async #load(): Promise<Config> {
    const [{ configured, loadConfig }, { publishersOf }] = await Promise.all([
      import('../../config/load.ts'),
      import('../../subscription/source/source.ts'),
    ]);
    const config = await loadConfig({ file: this.getOptionValue('config') as string | undefined });
    this.#followed = () => [
      ...(configured(config, 'publisher') ?? []),
      ...config.subscriptions.flatMap((subscription) => publishersOf([], [subscription])),
    ];
    this.#loaded = config;
    return config;
  }
}

/** Returns the publishers that a command follows, by its options or by the config file, as far as that has been read. */
export function followedBy(command: Command): readonly PublisherAddress[] {
  const named = command.getOptionValue('publisher') as readonly PublisherAddress[] | undefined;
  return [...(named ?? []), ...programOf(command).followed];
}

/**
 * Returns where the value of an option comes from, if not from the command line or a default. A command without the
 * option may tell of it, too: `status` shows what an update said.
 *
 * @param name its long form, such as `--require` or `--no-dht`
 */
export function placeOf(command: Command, name: string): Place | undefined {
  const isOff = name.startsWith('--no-');
  const key = name.slice(isOff ? '--no-'.length : '--'.length);
  const config = programOf(command).loaded;
  if (!isConfigKey(key) || config === undefined) return undefined;
  const setting = config.values.get(key);
  if (setting === undefined || (setting.written === false) !== isOff) return undefined;
  const option = optionOf(command, key);
  const source = option && command.getOptionValueSource(option.attributeName());
  if (option !== undefined && source !== setting.source) return undefined;
  const isOfModule = setting.source === 'config' && config.isOfModule;
  return { where: setting.where, ...(isOfModule ? { setting: `services.narswarm.settings.${key}` } : {}) };
}

/** Returns the configuration of a command, read once per program. @throws USAGE if it is malformed */
export function configOf(command: Command): Promise<Config> {
  return programOf(command).config();
}

/**
 * Sets the options of a command that have no flag from the environment or the config file, through the same parsers as
 * flags. Reads neither for a command without such options.
 *
 * @throws USAGE, naming the line or variable
 */
export async function configure(command: Command): Promise<void> {
  for (const option of command.options) assertNotEmpty(command, option);
  const options = CONFIG_KEYS.flatMap((key) => {
    const option = optionOf(command, key);
    return option === undefined ? [] : [{ key, option }];
  });
  if (options.length === 0) return;
  const { values } = await configOf(command);
  const whereabouts = new Map<string, string>();
  for (const { key, option } of options) {
    const setting = values.get(key);
    const name = option.attributeName();
    if (setting === undefined || command.getOptionValueSource(name) === 'cli' || !applies(command, key, setting))
      continue;
    command.setOptionValueWithSource(name, valueOf(option, key, setting), setting.source);
    whereabouts.set(name, setting.where);
  }
  programOf(command).whereabouts.set(command, whereabouts);
}

/** Keys whose values differ from those in force. */
export interface Reconfigured {
  /** Keys that have their new values now. */
  readonly applied: readonly ConfigKey[];
  /** Keys that would have other values after a restart. */
  readonly waiting: readonly ConfigKey[];
}

/**
 * Sets options of a running command from the present config file. Flags still override it.
 *
 * @param config the present one
 * @param inForce the values of the keys so far; changed keys get their new ones
 * @param isLive returns true for a key whose new value can be used without a restart
 * @throws USAGE for a malformed value; then nothing is set
 */
export function reconfigure(
  command: Command,
  config: Config,
  inForce: Map<ConfigKey, Written>,
  isLive: (key: ConfigKey, value: unknown) => boolean,
): Reconfigured {
  const changed = CONFIG_KEYS.flatMap((key) => {
    const option = optionOf(command, key);
    const setting = config.values.get(key);
    if (option === undefined || command.getOptionValueSource(option.attributeName()) === 'cli') return [];
    if (isDeepStrictEqual(setting?.written, inForce.get(key))) return [];
    const value = setting === undefined ? (option.defaultValue as unknown) : valueOf(option, key, setting);
    return [{ key, option, setting, value }];
  });
  const applied: ConfigKey[] = [];
  const waiting: ConfigKey[] = [];
  for (const { key, option, setting, value } of changed) {
    if (!isLive(key, value)) {
      waiting.push(key);
      continue;
    }
    applied.push(key);
    command.setOptionValueWithSource(option.attributeName(), value, setting?.source ?? 'default');
    if (setting === undefined) inForce.delete(key);
    else inForce.set(key, setting.written);
  }
  return { applied, waiting };
}

/** Returns a function that finds the origin of the values of a command's and the program's options. */
export function originOf(command: Command): OriginOf {
  return (name) => {
    const given: unknown = command.getOptionValueSourceWithGlobals(name);
    const source = SOURCES.find((known) => known === given) ?? 'default';
    if (source === 'default') return { source, where: '' };
    if (source !== 'cli') return { source, where: programOf(command).whereabouts.get(command)?.get(name) ?? source };
    const flags = command.options.filter((option) => option.attributeName() === name);
    const isOff = command.getOptionValue(name) === false;
    return { source, where: (flags.find(({ negate }) => negate === isOff) ?? flags[0])?.long ?? `--${name}` };
  };
}

/** Returns true if `one` has the stronger source: then it overrides `other`, and they do not contradict each other. */
export function isStronger(one: Origin, other: Origin): boolean {
  return SOURCES.indexOf(one.source) > SOURCES.indexOf(other.source);
}

/** Returns the origin of a value, to follow an option in a message. Empty for flags, which people see. */
export function aside({ source, where }: Origin): string {
  return source === 'config' || source === 'env' ? ` (${where})` : '';
}

/**
 * Refuses an empty value of a flag. It usually comes from an unset variable (`--store "$DIR"`); as a path it would mean
 * the working folder. Accepts it only if the default is the empty text.
 */
function assertNotEmpty(command: Command, option: Option): void {
  const name = option.attributeName();
  if (command.getOptionValue(name) !== '' || command.getOptionValueSource(name) !== 'cli') return;
  if (option.defaultValue === '') return;
  throw new NarswarmError('USAGE', `${option.long ?? option.flags} is empty: give it a value, or leave it out`);
}

function optionOf(command: Command, key: ConfigKey): Option | undefined {
  if (OTHERS[command.name()]?.includes(key) === true) return undefined;
  const long = RENAMED[command.name()]?.[key] ?? `--${key}`;
  return command.options.find((option) => option.long === long || option.long === `--no-${key}`);
}

/** `narswarm config` shows all keys. */
function applies(command: Command, key: ConfigKey, { source }: Setting): boolean {
  if (source === 'env' || !PORTS.has(key)) return true;
  return command.name() === 'config' || SERVICES.has(command.name());
}

function valueOf(option: Option, key: ConfigKey, { written, where }: Setting): unknown {
  const parse = option.parseArg as ((text: string, previous: unknown) => unknown) | undefined;
  if (typeof written === 'boolean' || parse === undefined) return written;
  try {
    if (typeof written === 'string') return parse(written, undefined);
    return written.reduce<unknown>((previous, item) => parse(item, previous), []);
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) throw cause;
    throw new NarswarmError('USAGE', `${where}: ${key}: ${cause.message}`, { cause });
  }
}

function programOf(command: Command): Program {
  if (command instanceof Program) return command;
  if (command.parent === null) throw new TypeError(`${command.name()} is the command of no program`);
  return programOf(command.parent);
}
