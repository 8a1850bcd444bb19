/** The ways from a binary cache into a Nix store that are compared. */
import { join } from 'node:path';
import type { BinaryCache } from './binary-cache.ts';
import type { Argv } from './process.ts';
import { narswarm } from './scene.ts';

/** One import: from where and to where. */
export interface ImportTask {
  readonly cache: Pick<BinaryCache, 'rootPath' | 'publicKey'>;
  readonly cacheUrl: string;
  /** An empty folder for the run. */
  readonly dir: string;
}

export interface ImportContestant {
  /** As `--only` takes it. */
  readonly name: 'nix-copy' | 'narswarm' | 'narswarm-nix-copy' | 'nix-copy-zstd' | 'narswarm-zstd';
  readonly text: string;
  /** The form of the cache's NARs: `zstd` as `publish --recompress zstd` makes them of the others. */
  readonly nars: 'xz' | 'zstd';
  command(task: ImportTask): Argv;
}

/** In the order of the report. */
export const IMPORT_CONTESTANTS: readonly ImportContestant[] = [
  {
    name: 'nix-copy',
    text: 'nix copy',
    nars: 'xz',
    command: nixCopy,
  },
  { name: 'narswarm', text: 'narswarm', nars: 'xz', command: (task) => fetchAndImport(task) },
  {
    name: 'narswarm-nix-copy',
    text: 'narswarm --import-with nix-copy',
    nars: 'xz',
    command: (task) => fetchAndImport(task, '--import-with', 'nix-copy'),
  },
  { name: 'nix-copy-zstd', text: 'nix copy, zstd NARs', nars: 'zstd', command: nixCopy },
  { name: 'narswarm-zstd', text: 'narswarm, zstd NARs', nars: 'zstd', command: (task) => fetchAndImport(task) },
];

function nixCopy(task: ImportTask): Argv {
  return ['nix', ...NIX_COMMAND, 'copy', '--from', task.cacheUrl, '--to', storeOf(task), task.cache.rootPath];
}

/** Old versions want it for `nix copy`. */
export const NIX_COMMAND = ['--extra-experimental-features', 'nix-command'] as const;

/** The store that a run fills. */
export function storeOf({ dir }: ImportTask): string {
  return `local?root=${join(dir, 'root')}`;
}

function fetchAndImport(task: ImportTask, ...flags: readonly string[]): Argv {
  const { cache, cacheUrl, dir } = task;
  const source = ['--from', cacheUrl, '--trusted-public-key', cache.publicKey];
  const network = ['--no-lan', '--no-dht', '--listen', '127.0.0.1'];
  const target = ['--store', join(dir, 'store'), '--to', storeOf(task)];
  return narswarm('fetch', cache.rootPath, ...source, ...network, ...target, ...flags);
}
