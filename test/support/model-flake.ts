/** A flake in the manner of a NixOS configuration, which needs no nixpkgs: a system is made of a configuration file. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { startHttpCache, type HttpCache } from './http-cache.ts';
import './test-nix.ts';

/** The paths of which the system is made. They are the same for each model. */
export interface ModelPaths {
  /** Needed to build `motd` for `etc`, built from `lost`, and not a reference of anything. In the cache. */
  readonly tool: StorePath;
  /** Part of the system, built from `lost`. In the cache. */
  readonly program: StorePath;
  /** Fixed output of which the system is made. In the cache. */
  readonly source: StorePath;
  /** Fixed output of which `tool` and `program` are made. In no cache. */
  readonly lost: StorePath;
}

export interface ModelFlake {
  /** The flake, as an installable names it. Its `system` is built from `etc`, `program` and `source`. */
  readonly flake: string;
  /** The one file that is changed. */
  readonly configuration: string;
  /** Folder of the flake's only input. */
  readonly input: string;
  /** Server of the files that are the fixed outputs. */
  readonly site: HttpCache;
}

/** Settings of Nix that let `/bin/sh` build. */
export const BUILDS = `experimental-features = nix-command flakes
build-users-group =
sandbox-paths = ${sandboxPaths()}
`;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Makes the flake. @param dir for its files */
export async function modelFlake(dir: string): Promise<ModelFlake> {
  const [flake, input, files] = ['flake', 'input', 'files'].map((name) => join(dir, name)) as [string, string, string];
  const configuration = join(flake, 'configuration.txt');
  await Promise.all([flake, input, files].map((folder) => mkdir(folder)));
  await writeFile(join(files, 'source.tar'), 'fetched\n');
  await writeFile(join(files, 'lost.tar'), 'lost\n');
  const site = await startHttpCache(files);
  await writeFile(
    join(input, 'flake.nix'),
    `{ outputs = _: rec {
  build = name: script: more: derivation ({
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ];
  } // more);
  local = { preferLocalBuild = true; allowSubstitutes = false; };
  source = name: hash: derivation rec {
    inherit name; system = "builtin"; builder = "builtin:fetchurl"; url = "${site.url}/\${name}"; urls = [ url ];
    executable = false; unpack = false; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash;
  };
}; }
`,
  );
  await writeFile(configuration, 'host = lab\n');
  await writeFile(
    join(flake, 'flake.nix'),
    `{ inputs.model.url = "path:${input}";
  outputs = { self, model }: with model; rec {
    tool = build "tool" "read word < \${lost}; echo tool $word > $out" { };
    source = model.source "source.tar" "${sha256('fetched\n')}";
    lost = model.source "lost.tar" "${sha256('lost\n')}";
    program = build "program" "read word < \${lost}; echo program $word > $out" { };
    motd = build "motd" "read word < \${tool}; read line < \${./configuration.txt}; echo $word $line > $out" { };
    etc = build "etc" "read line < \${motd}; echo $line > $out" local;
    system = build "system" "read etc < \${etc}; echo \${program} \${source} $etc > $out" local;
  };
}
`,
  );
  const env = { HOME: dir, LC_ALL: 'C', NIX_REMOTE: `local?root=${join(dir, 'nix')}`, NIX_CONFIG: BUILDS };
  await execa('nix', ['flake', 'lock', `path:${flake}`], { env });
  return { flake: `path:${flake}`, configuration, input, site };
}

/** Builds what the system of a model is made of in the store of a closure, and adds it to its cache. */
export async function cacheModel(made: MadeClosure, { flake, input }: ModelFlake): Promise<ModelPaths> {
  const env = { HOME: dirname(input), LC_ALL: 'C', NIX_CONFIG: `${BUILDS}substitute = false\n` };
  const nix = async (args: readonly string[]): Promise<string> => (await execa('nix', args, { env })).stdout.trim();
  const store = ['--store', made.buildStore];
  const built = async (name: string): Promise<StorePath> => {
    await nix(['build', '--no-link', ...store, `${flake}#${name}`]);
    return parseStorePath(JSON.parse(await nix(['eval', '--json', ...store, `${flake}#${name}.outPath`])) as string);
  };
  const [tool, program] = [await built('tool'), await built('program')];
  const [source, lost] = [await built('source'), await built('lost')];
  const paths = [tool, program, source];
  await nix(['store', 'sign', ...store, '--key-file', made.secretKeyFile, ...paths]);
  await nix(['copy', '--from', made.buildStore, '--to', `file://${made.cacheDir}?compression=xz`, ...paths]);
  return { tool, program, source, lost };
}
