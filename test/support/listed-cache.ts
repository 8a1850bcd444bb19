/** A closure of folders with files, links and programs, in a cache that has a listing of each NAR. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildClosure, type MadeClosure } from '../../src/demo/closure.ts';

/** A made closure, and where its real paths are on the disk. */
export interface ListedCache extends MadeClosure {
  /** The store folder of the build: each path as Nix has unpacked it. */
  readonly unpacked: string;
}

/**
 * Makes a closure of one root and a folder for each size, with a file of that size in it, an empty one, a program, links
 * and folders.
 */
export async function makeListedCache(
  dir: string,
  blobBytes: readonly number[],
  { hasListings = true }: { readonly hasListings?: boolean } = {},
): Promise<ListedCache> {
  for (const [index, bytes] of blobBytes.entries()) await makeTree(join(dir, `tree-${index}`), bytes);
  await writeFile(join(dir, 'closure.nix'), expression(dir, blobBytes.length));
  nix(
    dir,
    'nix-store',
    '--generate-binary-cache-key',
    'lab-1',
    join(dir, 'nix-key.secret'),
    join(dir, 'nix-key.public'),
  );
  const made = await buildClosure(dir);
  if (!hasListings) return { ...made, unpacked: join(made.buildStore, 'nix/store') };
  const cacheDir = join(dir, 'listed');
  const to = `file://${cacheDir}?compression=xz&compression-level=0&write-nar-listing=true`;
  nix(dir, 'nix', 'copy', '--from', made.buildStore, '--to', to, made.root);
  return { ...made, cacheDir, unpacked: join(made.buildStore, 'nix/store') };
}

async function makeTree(dir: string, bytes: number): Promise<void> {
  await mkdir(join(dir, 'bin'), { recursive: true });
  await mkdir(join(dir, 'share/doc/empty'), { recursive: true });
  await writeFile(join(dir, 'share/blob'), randomBytes(bytes));
  await writeFile(join(dir, 'share/nothing'), '');
  await writeFile(join(dir, 'share/doc/read me – ünï'), 'text\n');
  await writeFile(join(dir, 'bin/hello'), '#!/bin/sh\necho hello\n');
  await chmod(join(dir, 'bin/hello'), 0o755);
  await symlink('hello', join(dir, 'bin/hi'));
  await symlink('/nowhere', join(dir, 'bin/broken'));
  await symlink('share/doc', join(dir, 'doc'));
}

function expression(dir: string, count: number): string {
  return `let
  tree = i: builtins.path { path = ${dir} + "/tree-\${toString i}"; name = "tree-\${toString i}"; };
in derivation {
  name = "lab";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "echo \${toString (builtins.genList tree ${count})} > $out" ];
}
`;
}

function nix(home: string, file: string, ...args: readonly string[]): void {
  const env = { PATH: process.env['PATH'] ?? '', HOME: home, NIX_CONFIG: 'experimental-features = nix-command' };
  const { status, stderr } = spawnSync(file, args, { env, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}
