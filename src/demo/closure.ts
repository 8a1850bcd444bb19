import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { sandboxPaths } from './sandbox-paths.ts';

/** A binary cache with a closure, built and signed by the real Nix. */
export interface MadeClosure {
  /** The binary cache directory. */
  readonly cacheDir: string;
  /** Root of the local store of the build. */
  readonly buildStore: string;
  /** The path whose closure has all others. */
  readonly root: StorePath;
  /** The key of the signatures, in the form of `trusted-public-keys`. */
  readonly publicKey: string;
  /** File of the secret key, to sign more paths. */
  readonly secretKeyFile: string;
}

/** A step that takes a moment. */
export type ClosureStep = 'building' | 'compressing';

/** Files of the working folder. */
const EXPRESSION = 'closure.nix';
const SECRET = 'nix-key.secret';
const PUBLIC = 'nix-key.public';
const BUILD_STORE = 'build-store';

/** Makes Nix build in its own store in the working folder: the machine's store is neither needed nor changed. */
const NIX_CONFIG = `experimental-features = nix-command
substitute = false
build-users-group =
sandbox-paths = ${sandboxPaths()}`;

/**
 * Makes a closure of `2 * blobBytes.length` paths with the real Nix: incompressible blobs, and for each blob a small
 * package that refers to it and to the package before.
 *
 * @param dir working folder, must exist; everything is made below it
 * @param options.onStep called when a step begins
 * @param blobBytes size of each blob in bytes
 * @throws NIX_MISSING, NIX_FAILED in Nix's own words
 */
export async function makeClosure(
  dir: string,
  blobBytes: readonly number[],
  options: { name?: string; signal?: AbortSignal; onStep?: (step: ClosureStep) => void } = {},
): Promise<MadeClosure> {
  const { name = 'demo', signal, onStep } = options;
  onStep?.('building');
  const blobs = join(dir, 'blobs');
  await makeFolder(blobs);
  for (const [index, bytes] of blobBytes.entries()) await writeFile(join(blobs, `blob-${index}`), randomBytes(bytes));
  await writeFile(join(dir, EXPRESSION), expression(name, blobs, blobBytes.length));
  await run(
    'nix-store',
    ['--generate-binary-cache-key', `${name}-1`, join(dir, SECRET), join(dir, PUBLIC)],
    dir,
    signal,
  );
  return buildClosure(dir, { signal, onStep });
}

/** Builds, signs and copies the closure of a folder made by {@link makeClosure}, with its present blobs. */
export async function buildClosure(
  dir: string,
  { signal, onStep }: { signal?: AbortSignal | undefined; onStep?: ((step: ClosureStep) => void) | undefined } = {},
): Promise<MadeClosure> {
  const cacheDir = join(dir, 'cache');
  const buildStore = join(dir, BUILD_STORE);
  const secretKeyFile = join(dir, SECRET);
  const nix = (file: string, args: readonly string[]): Promise<string> => run(file, args, dir, signal);
  const root = parseStorePath(
    (await nix('nix-build', [join(dir, EXPRESSION), '--no-out-link', '--store', buildStore, '--quiet'])).trim(),
  );
  await nix('nix', ['store', 'sign', '--store', buildStore, '--recursive', '--key-file', secretKeyFile, root]);
  onStep?.('compressing');
  // The blobs cannot be compressed, so more than the least would only take time.
  await nix('nix', [
    'copy',
    '--from',
    buildStore,
    '--to',
    `file://${cacheDir}?compression=xz&compression-level=0`,
    root,
  ]);
  const publicKey = (await readFile(join(dir, PUBLIC), 'utf8')).trim();
  return { cacheDir, buildStore, root, publicKey, secretKeyFile };
}

function expression(name: string, blobs: string, count: number): string {
  return `let
  blob = i: builtins.path { path = ${blobs} + "/blob-\${toString i}"; name = "${name}-blob-\${toString i}"; };
  package = i: derivation {
    name = "${name}-\${toString i}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "echo \${blob i} \${if i == 0 then "" else package (i - 1)} $out > $out" ];
  };
in package ${count - 1}
`;
}

async function run(
  file: string,
  args: readonly string[],
  home: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    const env = { NIX_CONFIG, NIX_REMOTE: `local?root=${join(home, BUILD_STORE)}`, HOME: home, LC_ALL: 'C' };
    const { stdout } = await execa(file, args, { env, ...(signal === undefined ? {} : { cancelSignal: signal }) });
    return stdout;
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new NarswarmError(
        'NIX_MISSING',
        `${file} is not installed: install Nix (on Debian: apt-get install nix-bin)`,
        { cause: error },
      );
    }
    throw new NarswarmError(
      'NIX_FAILED',
      `${file} failed: ${error instanceof Error ? error.message.split('\n').slice(0, 4).join(' ') : String(error)}`,
      { cause: error },
    );
  }
}
