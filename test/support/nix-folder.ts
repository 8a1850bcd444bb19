/** For tests that call the real Nix in this process: a folder for each of them, and an environment that names it. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach } from 'node:test';
import { execa } from 'execa';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import './test-nix.ts';

const NIX_CONFIG = `substitute = false\nbuild-users-group =\nsandbox-paths = ${sandboxPaths()}`;

/**
 * Gives each test of the calling file an empty folder, with an empty store as the default one of Nix. The
 * environment is put back after each.
 *
 * @param prepare called with the folder before each test
 * @param settings more lines of nix.conf
 * @returns `fakeNix` and `fakeProgram`, which put a shell script in the place of Nix, or of another program, until the
 *   test is over
 */
export function useNixFolder(
  prepare: (folder: string) => void | Promise<void>,
  settings: readonly string[] = [],
): { fakeNix: (script: string) => void; fakeProgram: (program: string, script: string) => void } {
  const root = mkdtempSync(join(tmpdir(), 'narswarm-nix-'));
  const environment = { ...process.env };
  let folder = root;

  beforeEach(async () => {
    folder = mkdtempSync(join(root, 'test-'));
    process.env.HOME = folder;
    process.env.NIX_CONFIG = [NIX_CONFIG, ...settings].join('\n');
    process.env.NIX_REMOTE = `local?root=${folder}/default`;
    await prepare(folder);
  });
  afterEach(() => {
    process.env = { ...environment };
  });
  after(async () => {
    await execa('chmod', ['-R', 'u+w', root]);
    rmSync(root, { recursive: true });
  });

  const fakeProgram = (program: string, script: string): void => {
    const bin = join(folder, 'bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, program), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, program), 0o755);
    process.env.PATH = `${bin}:${environment.PATH}`;
  };
  const fakeNix = (script: string): void => {
    for (const program of ['nix', 'nix-store']) fakeProgram(program, script);
  };
  return { fakeNix, fakeProgram };
}
