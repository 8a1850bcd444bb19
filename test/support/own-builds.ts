/** Own builds: made by the real Nix on top of a closure that somebody else signed, and unsigned. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';

export interface OwnBuilds {
  /** Value of NIX_REMOTE: the store that holds them is the machine's own. */
  readonly remote: string;
  /** Refers to the root of the closure, and to two paths that have the same NAR. */
  readonly root: StorePath;
  /** Refers to nothing, and nothing refers to it. */
  readonly other: StorePath;
  /** Refers to 260 small files: more than are exported at once. */
  readonly many: StorePath;
}

/** Builds {@link OwnBuilds} in the store of a closure. @param dir for the expression */
export async function buildOwn(made: MadeClosure, dir: string): Promise<OwnBuilds> {
  const file = join(dir, 'own.nix');
  await writeFile(
    file,
    `let
  build = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
  };
  same = name: build name "echo same > $out";
in {
  root = build "own-1.0+b" "echo \${builtins.storePath ${JSON.stringify(made.root)}} \${same "one"} \${same "two"} > $out";
  other = build "other" "echo other > $out";
  many = build "many" "echo \${toString (builtins.genList (i: builtins.toFile "file-\${toString i}" "\${toString i}") 260)} > $out";
}
`,
  );
  const env = {
    HOME: dir,
    LC_ALL: 'C',
    NIX_CONFIG: `substitute = false\nbuild-users-group =\nsandbox-paths = ${sandboxPaths()}`,
  };
  const names = ['root', 'other', 'many'].flatMap((name) => ['-A', name]);
  const args = [file, ...names, '--no-out-link', '--store', made.buildStore, '--quiet'];
  const built = (await execa('nix-build', args, { env })).stdout.trim().split('\n');
  const [root, other, many] = built.map(parseStorePath) as [StorePath, StorePath, StorePath];
  return { remote: `local?root=${made.buildStore}`, root, other, many };
}
