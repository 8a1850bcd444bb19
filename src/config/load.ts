/** Loads the configuration of this machine: its config file, overridden by the environment. */
import { readFile, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NarswarmError } from '../errors.ts';
import { systemCode } from '../disk/store-error.ts';
import { nixStoreDir } from '../nix/store-path.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { readEnvironment, variableOf } from './environment.ts';
import { nearest } from './nearest.ts';
import { KEYS, type ConfigKey, type ValueOf, type Written } from './keys.ts';
import { configLocation, surroundings, type Surroundings } from './locations.ts';
import { parseConfig, type DeclaredSubscription } from './schema.ts';

/** One value and its origin. */
export interface Setting {
  readonly written: Written;
  readonly source: 'config' | 'env';
  /** `FILE:LINE`, or the name of a variable. */
  readonly where: string;
}

export interface Config {
  /** Absolute path of the config file. */
  readonly path: string;
  /** False if there is no file: then everything has its default. */
  readonly exists: boolean;
  /** True if it lies in the Nix store: then a module of NixOS, Home Manager or nix-darwin has written it. */
  readonly isOfModule: boolean;
  /** The values of the file and the environment. A variable overrides the file's value of its key. */
  readonly values: ReadonlyMap<ConfigKey, Setting>;
  /** In the order of the file. */
  readonly subscriptions: readonly DeclaredSubscription[];
}

/** @param options.file the file that `--config` names */
export interface LoadOptions {
  readonly file?: string | undefined;
  readonly around?: Surroundings;
}

/**
 * Reads the config file and the environment.
 *
 * @throws USAGE if a named file does not exist, or if either is malformed
 */
export async function loadConfig({ file, around = surroundings() }: LoadOptions = {}): Promise<Config> {
  const { path, text } = await readConfigText({ file, around });
  const { values, subscriptions } = parseConfig(text ?? '', path);
  const settings = new Map<ConfigKey, Setting>();
  for (const [key, { written, where }] of values) settings.set(key, { written, source: 'config', where });
  for (const [key, written] of readEnvironment(around.env))
    settings.set(key, { written, source: 'env', where: variableOf(key) });
  const isOfModule = text !== undefined && (await isInNixStore(path));
  return { path, exists: text !== undefined, isOfModule, values: settings, subscriptions };
}

/** Returns the parsed value of a key. Undefined if neither the file nor the environment has it. */
export function configured<K extends ConfigKey>(config: Config, key: K): ValueOf<K> | undefined {
  const written = config.values.get(key)?.written;
  if (written === undefined) return undefined;
  const { parse } = KEYS[key];
  if (typeof written === 'boolean') return written as ValueOf<K>;
  return (typeof written === 'string' ? parse(written) : written.map((item) => parse(item))) as ValueOf<K>;
}

/** Returns the subscription with this name. @throws USAGE, listing the existing names */
export function subscriptionNamed(config: Config, name: string): Subscription {
  const found = config.subscriptions.find((subscription) => subscription.name === name);
  if (found !== undefined) return found;
  const names = config.subscriptions.map((subscription) => subscription.name);
  const meant = nearest(name, names);
  const has = hasInWords(names);
  const wayOut = meant === undefined ? has : `did you mean ${meant}? (${has})`;
  throw new NarswarmError('USAGE', `there is no subscription ${name} in ${config.path}: ${wayOut}`, {
    facts: { name, file: config.path, ...(meant === undefined ? {} : { meant }) },
  });
}

/** Limit on names that a message lists. */
const LISTED_NAMES = 12;

/** Says which subscriptions a config file has. */
export function hasInWords(names: readonly string[]): string {
  if (names.length === 0) return 'it has none; add one with narswarm subscribe';
  if (names.length > LISTED_NAMES) return `narswarm subscriptions lists its ${names.length}`;
  return `it has ${names.join(', ')}`;
}

async function isInNixStore(path: string): Promise<boolean> {
  const real = await realpath(path).catch(() => path);
  return real.startsWith(`${nixStoreDir(process.env)}/`);
}

/** Reads the text of the config file. Undefined if it does not exist. @throws USAGE as {@link loadConfig} */
export async function readConfigText(
  options: LoadOptions = {},
): Promise<{ readonly path: string; readonly text: string | undefined }> {
  const { path: named, namedBy } = configLocation(options.file, options.around);
  const path = resolve(named);
  try {
    return { path, text: await readFile(path, 'utf8') };
  } catch (cause) {
    const isAbsent = systemCode(cause) === 'ENOENT';
    if (isAbsent && namedBy === undefined) return { path, text: undefined };
    const by = namedBy === undefined ? '' : ` of ${namedBy}`;
    const message = isAbsent
      ? `there is no ${path}, the config file${by}: make it (it may be empty), or name another one`
      : `cannot read the config file ${path}${by} (${systemCode(cause) ?? String(cause)}): check its permissions, or name another one with --config`;
    throw new NarswarmError('USAGE', message, { cause, facts: { file: path } });
  }
}
