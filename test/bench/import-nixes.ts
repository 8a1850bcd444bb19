/** The Nix installations that imports are measured with. */
import { execFileSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { newerNix, NoNewerNix } from '../support/newer-nix.ts';

export const NIX_NAMES = ['installed', 'trixie', 'sid'] as const;
export type NixName = (typeof NIX_NAMES)[number];

export interface NixVersion {
  readonly name: NixName;
  /** Such as `2.8.0`. */
  readonly version: string;
  /** A value for PATH with its programs first. */
  readonly path: string;
}

/** Finds them, or fetches them. @param onMissing is told why one is left out */
export function findNixes(names: readonly NixName[], onMissing: (name: NixName, reason: string) => void): NixVersion[] {
  const { PATH = '' } = process.env;
  return names.flatMap((name) => {
    try {
      const path = name === 'installed' ? PATH : `${newerNix(name)}${delimiter}${PATH}`;
      return [{ name, version: versionOf(name === 'installed' ? 'nix' : join(newerNix(name), 'nix')), path }];
    } catch (error) {
      if (!(error instanceof NoNewerNix)) throw error;
      onMissing(name, error.message);
      return [];
    }
  });
}

function versionOf(nix: string): string {
  try {
    const text = execFileSync(nix, ['--version'], { encoding: 'utf8' });
    return /(\d+\.\d+\S*)\s*$/.exec(text)?.[1] ?? text.trim();
  } catch (cause) {
    throw new NoNewerNix('it does not start', { cause });
  }
}
