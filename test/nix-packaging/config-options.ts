/**
 * Writes nix/options.json, from which the Nix modules declare the keys of the config file:
 * `node test/nix-packaging/config-options.ts`, after a change of src/config/keys.ts.
 */
import { writeFileSync } from 'node:fs';
import { CONFIG_KEYS, KEYS } from '../../src/config/keys.ts';

/** The file, relative to this one. */
export const OPTIONS_FILE = new URL('../../nix/options.json', import.meta.url);

/** Returns the text of the file. Default paths depend on the user and are left out. */
export function configOptions(): string {
  const entries = CONFIG_KEYS.map((key) => {
    const { shape, description, initial } = KEYS[key];
    return [key, { shape, description, ...(shape !== 'path' && { default: initial() }) }] as const;
  });
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`;
}

if (import.meta.main) writeFileSync(OPTIONS_FILE, configOptions());
