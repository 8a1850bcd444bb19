/** Evaluates the Nix files of this repository with the real Nix. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The repository's top folder, with a slash at its end. */
export const TOP = fileURLToPath(new URL('../../', import.meta.url));

/** The libs to evaluate with: the stub (undefined), and the folder of nixpkgs' own lib if this machine has it. */
export const LIBS: readonly (readonly [title: string, folder: string | undefined])[] = [
  ['with a stub of lib', undefined],
  ...findNixpkgsLib().map((folder) => ['with the lib of nixpkgs', folder] as const),
];

/** Evaluates an expression and builds nothing. Paths in it are relative to the top folder. */
export function nixEval(expression: string, args: readonly string[] = []): unknown {
  const result = tryNixEval(expression, args);
  assert.equal(result.status, 0, result.stderr);
  return JSON.parse(result.stdout);
}

/** Evaluates an expression that may fail. Nix's messages are in `stderr`. */
export function tryNixEval(
  expression: string,
  args: readonly string[] = [],
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync('nix-instantiate', ['--eval', '--strict', '--json', '--expr', expression, ...args], {
    cwd: TOP,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: '/var/empty', NIX_PATH: '', LC_ALL: 'C' },
  });
}

/** Returns NIXPKGS_LIB, or the lib of <nixpkgs>. */
function findNixpkgsLib(): string[] {
  const given = process.env['NIXPKGS_LIB'] ?? '';
  if (given !== '') return [given];
  const found = spawnSync('nix-instantiate', ['--find-file', 'nixpkgs/lib'], { encoding: 'utf8' });
  return found.status === 0 ? [found.stdout.trim()] : [];
}
