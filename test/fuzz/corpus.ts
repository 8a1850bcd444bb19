import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE_DIR } from '../nix/fixtures.ts';

/** The narinfos of the golden closure. */
export function fixtureNarInfos(): Buffer[] {
  return readdirSync(CACHE_DIR)
    .filter((name) => name.endsWith('.narinfo'))
    .map((name) => readFileSync(join(CACHE_DIR, name)));
}
