/** Writes the licences of the bundled packages into `dist/`. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'rolldown';

const FILE_NAME = 'THIRD-PARTY-LICENSES';
const LICENCE_FILES = '{LICENSE,LICENCE,license,licence,COPYING,NOTICE}*';
/** Matches the folder of the package that a module belongs to. */
const PACKAGE = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/;

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: unknown;
  readonly author?: string | { readonly name: string } | readonly string[];
}

/**
 * Collects the licences of all packages that have a module in the bundle. The build fails if one of them names no
 * licence.
 */
export function thirdPartyLicences(): Plugin {
  return {
    name: 'third-party-licences',
    generateBundle(_, bundle) {
      const modules = Object.values(bundle).flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
      const packages = new Set(modules.flatMap((id) => PACKAGE.exec(id)?.[0] ?? []));
      const source = [...packages]
        .toSorted()
        .map(licenceOf)
        .join(`\n${'-'.repeat(80)}\n\n`);
      this.emitFile({ type: 'asset', fileName: FILE_NAME, source });
    },
  };
}

function licenceOf(folder: string): string {
  const { name, version, license, author } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
  const texts = globSync(LICENCE_FILES, { cwd: folder }).map((file) => readFileSync(join(folder, file), 'utf8').trim());
  if (texts.length === 0 && typeof license !== 'string') throw new Error(`${folder} names no licence`);
  const by = typeof author === 'object' && 'name' in author ? author.name : author;
  // Some packages only name their licence, and ship no copy of it.
  const named =
    typeof license === 'string' ? [`Licence: ${license}${by === undefined ? '' : `, by ${String(by)}`}`] : [];
  return [`${name} ${version}`, ...named, ...texts].join('\n\n') + '\n';
}
