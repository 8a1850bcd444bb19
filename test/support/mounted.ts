/** A closure that `narswarm mount` shows, for tests, and programs that look at it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALONE, type CliProcess, type Lab, type ProcessOptions } from './lab.ts';
import type { ListedCache } from './listed-cache.ts';

/** Why nothing can be mounted here. False if it can. */
export function lacksFuse(): string | false {
  if (process.getuid?.() !== 0) return 'only root can mount';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return false;
  } catch {
    return 'there is no /dev/fuse';
  }
}

/** Milliseconds after which a program that looks at a mount is killed: longer than any answer takes. */
const PATIENCE_MS = 180_000;

/** The result of a program. `killed` if it did not end by itself. */
export interface Looked {
  readonly status: number | string | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly killed: boolean;
}

/**
 * Runs a program beside this process. A test never looks at a mount itself: it would wait in the kernel, and the cache in
 * the same process with it.
 */
export function look(file: string, ...args: readonly string[]): Promise<Looked> {
  return new Promise((done) => {
    const options = { encoding: 'buffer', maxBuffer: 256e6, timeout: PATIENCE_MS, killSignal: 'SIGKILL' } as const;
    execFile(file, args, { ...options, env: { ...process.env, LC_ALL: 'C' } }, (error, stdout, stderr) =>
      done({
        status: error?.code ?? (error?.signal ? null : 0),
        stdout,
        stderr: String(stderr),
        killed: error?.killed ?? false,
      }),
    );
  });
}

/** Runs a program that must succeed. @returns what it printed */
export async function lookWell(file: string, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await look(file, ...args);
  assert.equal(status, 0, `${file} ${args.join(' ')}: ${stderr}`);
  return stdout.toString();
}

/** A running mount. */
export interface Mounted {
  readonly process: CliProcess;
  readonly dir: string;
  readonly store: string;
  /** Returns the place of a path in the mount. `name`: what comes after the hash */
  path(name: string, ...below: readonly string[]): string;
}

/** Starts `narswarm mount` of a whole closure, and waits until it can be looked at. */
export async function mount(
  lab: Lab,
  made: ListedCache,
  caches: readonly string[],
  { dir, store, ...options }: { readonly dir?: string; readonly store?: string } & ProcessOptions = {},
): Promise<Mounted> {
  const at = dir ?? (await lab.folder('mount'));
  const files = store ?? lab.path('store');
  const from = caches.flatMap((cache) => ['--from', cache]);
  const trusted = ['--trusted-public-key', made.publicKey];
  const process = lab.start(['mount', at, made.root, '--store', files, ...from, ...trusted, ...ALONE], options);
  await process.event('mounted');
  return {
    process,
    dir: at,
    store: files,
    path: (name, ...below) => join(at, baseName(made, name), ...below),
  };
}

/** Returns the name of a path of the closure by what comes after its hash. */
export function baseName({ unpacked, root }: ListedCache, name: string): string {
  if (root.endsWith(`-${name}`)) return root.slice(root.lastIndexOf('/') + 1);
  const found = readFileSync(join(unpacked, root.slice(root.lastIndexOf('/') + 1)), 'utf8')
    .trim()
    .split(' ')
    .find((path) => path.endsWith(`-${name}`));
  assert.ok(found !== undefined, `the closure has no ${name}`);
  return found.slice(found.lastIndexOf('/') + 1);
}

/** True while something is mounted on a folder. */
export function isMounted(dir: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === dir);
}
