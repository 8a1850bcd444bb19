/** Reads settings from the environment: `NARSWARM_MAX_SIZE=50G` means `max-size = "50G"`. */
import { NarswarmError } from '../errors.ts';
import { CONFIG_KEYS, KEYS, type ConfigKey, type Written } from './keys.ts';
import { isReadable } from './units.ts';

/** Returns the variable for a key. */
export function variableOf(key: ConfigKey): string {
  return `NARSWARM_${key.toUpperCase().replaceAll('-', '_')}`;
}

/**
 * Reads the variables of all keys. An empty one counts as unset. Lists are split at white space.
 *
 * @throws USAGE, naming a malformed variable
 */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): Map<ConfigKey, Written> {
  const values = new Map<ConfigKey, Written>();
  for (const key of CONFIG_KEYS) {
    const text = env[variableOf(key)]?.trim() ?? '';
    if (text !== '') values.set(key, readVariable(key, text));
  }
  return values;
}

function readVariable(key: ConfigKey, text: string): Written {
  const { shape, parse } = KEYS[key];
  const items = shape === 'list' ? text.split(/\s+/) : [text];
  try {
    if (shape === 'list') for (const item of items) refuseCommas(item, parse);
    const [first] = items.map((item) => parse(item));
    if (shape === 'flag') return first === true;
    return shape === 'list' ? items : text;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const variable = variableOf(key);
    throw new NarswarmError('USAGE', `${variable}: ${reason}`, { cause, facts: { variable } });
  }
}

/** Refuses commas that separate items or end one. An item itself may contain a comma. */
function refuseCommas(item: string, parse: (text: string) => unknown): void {
  if (!item.includes(',')) return;
  const parts = item.split(',').filter((part) => part !== '');
  if (parts.every((part) => isReadable(part, parse)))
    throw new NarswarmError('USAGE', 'Expected spaces between the items of a list, and no commas.');
}
