/** Builds of several layers. The real Nix has built only the lowest; the rest is only evaluated. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';

export interface EvaluatedBuilds {
  /**
   * Nix file: `top` is built from `middle`, that from `low`, that from `cached`, `source` and `lost`. `cached` is the
   * root of the closure, and `gone` is built from `lost`. Only `cached` and `source` are in the cache.
   */
  readonly file: string;
  /** Folder of a flake, whose `top` is built from `source` alone. */
  readonly flake: string;
  /** A fixed output, in the cache. */
  readonly source: StorePath;
}

const FETCHED = 'fetched once\n';

/** Adds `source` to the cache of a closure. @param dir for new files */
export async function evaluatedBuilds(made: MadeClosure, dir: string): Promise<EvaluatedBuilds> {
  const file = join(dir, 'builds.nix');
  const flake = join(dir, 'flake');
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const fixed = (name: string, text: string): string => `derivation {
    name = "${name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" ${JSON.stringify(`echo "${text.trim()}" > $out`)} ];
    outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "${sha256(text)}";
  }`;
  const build = (name: string, inputs: string): string =>
    `derivation { name = "${name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo ${inputs} > $out" ]; }`;
  await writeFile(
    file,
    `rec {
  cached = import ${join(dirname(made.cacheDir), 'closure.nix')};
  source = ${fixed('source.tar', FETCHED)};
  lost = ${fixed('lost.tar', 'lost\n')};
  gone = ${build('gone', '${lost}')};
  low = ${build('low', '${cached} ${source} ${lost}')};
  middle = ${build('middle', '${low}')};
  top = ${build('top', '${middle}')};
}
`,
  );
  await mkdir(flake);
  await writeFile(
    join(flake, 'flake.nix'),
    `{ outputs = _: { top = ${build('flake-top', `\${${fixed('source.tar', FETCHED)}}`)}; }; }\n`,
  );
  const env = {
    HOME: dir,
    LC_ALL: 'C',
    NIX_CONFIG: `experimental-features = nix-command\nsystem = x86_64-linux\nsubstitute = false\nbuild-users-group =\nsandbox-paths = ${sandboxPaths()}`,
  };
  const nix = async (command: string, args: readonly string[]): Promise<string> =>
    (await execa(command, args, { env })).stdout.trim();
  const store = ['--store', made.buildStore];
  const source = parseStorePath(await nix('nix-build', [file, '-A', 'source', '--no-out-link', '--quiet', ...store]));
  await nix('nix', ['store', 'sign', ...store, '--key-file', made.secretKeyFile, source]);
  await nix('nix', ['copy', '--from', made.buildStore, '--to', `file://${made.cacheDir}?compression=xz`, source]);
  return { file, flake, source };
}
