import { Command, Option } from 'commander';
import { CONFIG_KEYS, KEYS, type ConfigKey } from '../../config/keys.ts';
import { parseUpstream } from '../../http/upstream.ts';
import type { Origin } from '../options/configuration.ts';
import { fitted } from '../words/fitting.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';
import { each, one } from '../words/values.ts';

type ConfigOptions = CommonOptions & Readonly<Record<string, unknown>>;

export function configCommand(): Command {
  const config = new Command('config')
    .summary('show the values in force, and their origin')
    .description(
      'show the value and the origin of every key of the config file: defaults < config file < environment (NARSWARM_*) < flags',
    );
  for (const option of CONFIG_KEYS.flatMap(optionsOf)) config.addOption(option);
  addCommon(
    config,
    [
      'narswarm config',
      'narswarm config --config ./lab.toml --json',
      'NARSWARM_MAX_DOWNLOAD_RATE=10MB/s narswarm config',
    ],
    [],
  );
  return config.action(
    command<ConfigOptions, []>(async ({ output, options, config: load, originOf }) => {
      const { path, exists, subscriptions } = await load();
      output.note(exists ? path : `${path} (does not exist)`);
      const width = Math.max(...CONFIG_KEYS.map((key) => key.length));
      const settings = CONFIG_KEYS.map((key) => {
        const name = attributeOf(key);
        const origin = originOf(name);
        const value = origin.source === 'default' ? null : shown(key, options[name]);
        return { key, value, default: KEYS[key].initial(), origin, text: textOf(value, KEYS[key].initial()) };
      });
      const valueWidth = Math.min(60, Math.max(...settings.map(({ text }) => text.length)));
      const placeWidth = Math.max(...settings.map(({ origin }) => originInWords(origin).length));
      const { columns } = output;
      const isTable = columns === undefined || width + valueWidth + placeWidth + 4 <= columns;
      for (const { key, value, default: initial, origin, text } of settings) {
        const { source, where } = origin;
        output.result(
          'setting',
          { key, value, default: initial, source: SOURCE_NAMES[source], where },
          isTable
            ? `${key.padEnd(width)}  ${text.padEnd(valueWidth)}  ${originInWords(origin)}`
            : fitted(`${key.padEnd(width)}  ${text} (${originInWords(origin)})`, columns, () => width + 2),
        );
      }
      output.result(
        'config',
        { file: path, exists, subscriptions: subscriptions.map(({ name }) => name) },
        `${'subscriptions'.padEnd(width)}  ${subscriptions.map(({ name }) => name).join(' ') || 'none'}`,
      );
    }),
  );
}

const SOURCE_NAMES: Readonly<Record<Origin['source'], string>> = {
  default: 'default',
  config: 'file',
  env: 'environment',
  cli: 'flag',
};

/** Makes the options of a key. Checks values, but keeps and shows them as the file has them. */
function optionsOf(key: ConfigKey): Option[] {
  const { shape, placeholder, description, parse } = KEYS[key];
  if (shape === 'flag') return [new Option(`--${key}`, description), new Option(`--no-${key}`)];
  const check = (text: string): string => {
    parse(text);
    return text;
  };
  const option = new Option(`--${key} <${placeholder}>`, description);
  return [shape === 'list' ? option.argParser(each(check)) : option.argParser(one(check))];
}

/** Returns a value without passwords, which the address of a cache may have. */
function shown(key: ConfigKey, value: unknown): unknown {
  return key === 'from' && Array.isArray(value) ? value.map((url) => parseUpstream(String(url)).name) : value;
}

function originInWords({ where }: Origin): string {
  return where === '' ? 'default' : where;
}

function attributeOf(key: ConfigKey): string {
  return new Option(`--${key}`).attributeName();
}

function textOf(value: unknown, initial: string): string {
  if (value === null || value === undefined) return initial;
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(' ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
