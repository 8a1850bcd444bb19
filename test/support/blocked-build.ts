/** A build of two derivations by the real Nix, whose second one waits for the test. */
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import type { Lab } from './lab.ts';

export class BlockedBuild {
  /** Nix file: `top` is built from `first`. */
  readonly file: string;
  readonly env: Readonly<Record<string, string>>;
  /** Store paths of both. */
  readonly first: string;
  readonly top: string;
  readonly #dir: string;

  private constructor(dir: string, env: Readonly<Record<string, string>>, [first = '', top = '']: readonly string[]) {
    this.#dir = dir;
    this.file = join(dir, 'builds.nix');
    this.env = env;
    this.first = first;
    this.top = top;
  }

  static async make(lab: Lab): Promise<BlockedBuild> {
    const dir = await lab.folder('build');
    const gate = join(dir, 'gate');
    await execa('mkfifo', [gate]);
    const derivation = (name: string, script: string): string =>
      `derivation { name = "${name}"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "${script}" ]; }`;
    await writeFile(
      join(dir, 'builds.nix'),
      `rec {
  first = ${derivation('first', 'echo one > $out')};
  top = ${derivation('top', 'read line < /gate; echo ${first} > $out')};
}
`,
    );
    const env = {
      NIX_REMOTE: `local?root=${join(dir, 'store')}`,
      NIX_CONFIG: `substitute = false\nbuild-users-group =\nsandbox-paths = ${sandboxPaths()} /gate=${gate}`,
    };
    const paths: string[] = [];
    // One after the other: two must not create the same store.
    for (const name of ['first', 'top']) {
      const args = ['--eval', '--json', join(dir, 'builds.nix'), '-A', `${name}.outPath`];
      const { stdout } = await execa('nix-instantiate', args, { env: { ...lab.env, ...env } });
      paths.push(JSON.parse(stdout) as string);
    }
    return new BlockedBuild(dir, env, paths);
  }

  /** Builds `top`. It ends after {@link goOn}. */
  async start(): Promise<void> {
    await execa('nix-build', [this.file, '-A', 'top', '--no-out-link'], { env: { HOME: this.#dir, ...this.env } });
  }

  async goOn(): Promise<void> {
    await using gate = await open(join(this.#dir, 'gate'), 'w');
    await gate.write('on\n');
  }
}
