/**
 * The only place that runs Nix, for versions from 2.8 on. Enables `nix-command` on each call, and reads output that
 * changed between versions defensively. Aborting `signal` ends Nix, or keeps it from starting, and throws the signal's
 * reason.
 */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { callsByKind, callsInOrder, type CopyCall } from './copy-order.ts';
import { type Evaluated, evaluateExpression, parseEvaluated, splitOutputs } from './evaluate.ts';
import { parseNixConfig, parseTrustedUsers } from './nix-config.ts';
import type { NixConfig } from './nix-config.ts';
import { parseStoreInfo, type StoreDescription } from './store-info.ts';
import { withPlainPath } from './plain-path.ts';
import { parseRealisations, type Realisation } from './realisation.ts';
import { parseStorePath } from './store-path.ts';
import { parseRegistrations } from './valid-path.ts';
import type { ValidPath } from './valid-path.ts';

/** Limit for one command line: the kernel bounds its length, and 1000 store paths are well below. */
const MAX_PATHS_PER_CALL = 1000;
const NIX_COMMAND = ['--extra-experimental-features', 'nix-command'];
const FLAKES = ['--extra-experimental-features', 'nix-command flakes'];
const WITHOUT_NIX =
  'install Nix, or do without it: --from and --trusted-public-key replace its configuration, --no-copy skips the import';
/** The old name first: newer versions still know it, and older ones start only once. */
const SHOW_CONFIG = [['show-config', '--json'], ['config', 'show', '--json'], ['config', 'show'], ['show-config']];

const STORE_INFO = [
  ['store', 'ping', '--json'],
  ['store', 'ping'],
  ['store', 'info', '--json'],
];

/** Options of a call. */
export interface CallOptions {
  /** Ends Nix when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** The way out if Nix is not installed, for the error. */
  readonly withoutNix?: string | undefined;
  /** Environment variables for Nix, added to those of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads the substituters and keys of this machine's Nix configuration, in its order.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readNixConfig(options: CallOptions = {}): Promise<NixConfig> {
  return parseNixConfig((await runFirstKnown(SHOW_CONFIG, options)).stdout);
}

/** Reads the version of Nix, such as `2.26.3`. @throws as {@link readNixConfig} */
export async function nixVersion(options: CallOptions = {}): Promise<string> {
  const result = await runNix('nix', ['--version'], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout.trim().split(' ').at(-1) ?? '';
}

/** Reads `trusted-users`: the Nix daemon accepts settings of these users. @throws as {@link readNixConfig} */
export async function readTrustedUsers(options: CallOptions = {}): Promise<string[]> {
  return parseTrustedUsers((await runFirstKnown(SHOW_CONFIG, options)).stdout);
}

/** Connects to a store. @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words */
export async function describeStore(options: StoreCallOptions = {}): Promise<StoreDescription> {
  const commands = STORE_INFO.map((command) => command.concat(storeArgs(options)));
  const { stdout, stderr } = await runFirstKnown(commands, options);
  return parseStoreInfo(stdout === '' ? stderr : stdout);
}

/** Runs the first of several commands that this Nix knows. */
async function runFirstKnown(commands: readonly (readonly string[])[], options: CallOptions): Promise<RunResult> {
  for (const command of commands) {
    // oxlint-disable-next-line no-await-in-loop -- the next one is tried only if this Nix lacks the one before
    const result = await runNix('nix', [...NIX_COMMAND, ...command], options);
    if (!result.failed) return result;
    if (!/not a recogni[sz]ed|unrecogni[sz]ed/.test(result.stderr)) throw nixFailed(result);
  }
  const names = commands.map((command) => `\`nix ${command.join(' ')}\``);
  throw new NarswarmError('NIX_FAILED', `this nix has neither ${names.join(' nor ')}`);
}

/**
 * Returns the paths that the store does not hold. A local store that does not exist yet holds none; Nix creates its
 * empty database.
 *
 * @param store a store URI such as `local?root=/mnt`. Undefined: Nix's default store
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function queryInvalidPaths(
  paths: readonly StorePath[],
  store: string | undefined,
  options: CallOptions = {},
): Promise<Set<StorePath>> {
  const query = ['--check-validity', '--print-invalid', ...(store === undefined ? [] : ['--store', store])];
  const invalid = new Set<StorePath>();
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: parallel calls gain nothing
    const result = await runNix('nix-store', [...query, ...chunk], options);
    if (result.failed) throw nixFailed(result);
    for (const line of result.stdout.split('\n')) {
      if (line !== '') invalid.add(parseStorePath(line));
    }
  }
  return invalid;
}

/**
 * Returns the closure of paths in Nix's default store, with Nix's record of each path. References come first.
 *
 * @throws NarswarmError `NOT_FOUND`, naming a path that the store does not hold; `NIX_MISSING`, or `NIX_FAILED` in
 *   Nix's own words.
 */
export async function queryRegistrations(paths: readonly StorePath[], options: CallOptions = {}): Promise<ValidPath[]> {
  const [invalid] = await queryInvalidPaths(paths, undefined, options);
  if (invalid !== undefined) {
    const message = `${invalid} is not valid in the Nix store of this machine: build it first (nix build)`;
    throw new NarswarmError('NOT_FOUND', message, { facts: { path: invalid } });
  }
  const closure = new Set<StorePath>();
  for (const line of await runOverPaths(['--query', '--requisites'], paths, options)) closure.add(parseStorePath(line));
  // `path-info --json` changed its shape several times; --dump-db writes the lines that Nix reads back with --load-db.
  return parseRegistrations(await runOverPaths(['--dump-db'], [...closure], options));
}

/** A request to export paths to a folder. */
export interface ExportRequest extends CallOptions {
  /**
   * Paths of Nix's default store, references first. References outside this list are not exported: `to` must have their
   * narinfos. A .drv path means the file itself.
   */
  readonly paths: readonly Pick<ValidPath, 'storePath' | 'references'>[];
  /** Folder that is, or becomes, a binary cache. Paths whose narinfo it has are skipped. */
  readonly to: string;
  readonly compression: Compression;
  /** Folder for each NAR until it is complete. */
  readonly temporaryDir: string;
  /** Called with each line that Nix prints, at once. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/** Compressions for exported NARs. Every Nix since 2.4 can read them. */
export const COMPRESSIONS = ['xz', 'zstd', 'none'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

/**
 * Writes NARs and narinfos with `nix copy`. Keeps the signatures that the store has.
 *
 * @throws NarswarmError `STORE_FULL` if the disk is full; `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function exportPaths(request: ExportRequest): Promise<void> {
  const { paths, to, compression, temporaryDir, onLine, signal } = request;
  await withPlainPath(to, async (plain) => {
    const copy = [...NIX_COMMAND, 'copy', '--no-recursive', '--to', `file://${plain}?compression=${compression}`];
    copy.push('--option', 'substituters', '');
    for (const args of argumentsOf(callsInOrder(paths))) {
      // oxlint-disable-next-line no-await-in-loop -- a path comes after its references
      const result = await runNix('nix', [...copy, ...args], { onLine, signal, temporaryDir });
      if (!result.failed) continue;
      if (!/No space left on device|Disk quota exceeded/.test(result.stderr)) throw nixFailed(result);
      const message = `no space left on the device that holds ${to}: free some space, then run the same command again to continue`;
      throw new NarswarmError('STORE_FULL', message, { cause: result, facts: { path: to } });
    }
  });
}

/** A request to copy closures from one store to another. */
export interface CopyRequest extends CallOptions {
  /** URL of the store to copy from, such as `file:///var/cache/narswarm`. */
  readonly from: string;
  /** URI of the store to copy to. Undefined: Nix's default store. */
  readonly to: string | undefined;
  /** Roots: Nix copies their closures. A .drv path means the file itself. */
  readonly paths: readonly StorePath[];
  /**
   * Extra keys (`<name>:<base64>`) to trust, besides those in Nix's configuration. May be empty. A Nix daemon accepts
   * them only from its trusted users.
   */
  readonly trustedPublicKeys: readonly string[];
  /**
   * False to accept paths without a signature. A Nix daemon accepts that only from its trusted users. Default: true.
   */
  readonly checkSignatures?: boolean | undefined;
  /** Called with each line that Nix prints, at once. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/**
 * Runs `nix copy`. Skips paths that the target already holds. Nix checks signatures and NarHashes, and fetches from
 * nowhere but `from`.
 *
 * @throws NarswarmError `NIX_MISSING`, or `IMPORT_FAILED` in Nix's own words, with the facts of that code.
 */
export async function copyClosure(request: CopyRequest): Promise<void> {
  const { from, to, paths, trustedPublicKeys, checkSignatures = true, onLine, signal } = request;
  const copy = [...NIX_COMMAND, 'copy', '--from', from, ...(to === undefined ? [] : ['--to', to])];
  copy.push('--option', 'substituters', '');
  if (!checkSignatures) copy.push('--no-check-sigs');
  if (trustedPublicKeys.length > 0) copy.push('--option', 'extra-trusted-public-keys', trustedPublicKeys.join(' '));
  for (const args of argumentsOf(callsByKind(paths))) {
    // oxlint-disable-next-line no-await-in-loop -- closures overlap: the next call skips the paths that this one copied
    const result = await runNix('nix', [...copy, ...args], { onLine, signal });
    if (!result.failed) continue;
    const [, path] = /(?:hash|size) mismatch importing path '([^']+)'/.exec(result.stderr) ?? [];
    const words = lastWordsOf(result);
    throw new NarswarmError('IMPORT_FAILED', `nix copy from ${from} failed: ${words}`, {
      cause: result,
      facts: { from, to, path, isOfTarget: OF_TARGET.test(words) },
    });
  }
}

/** Options of a call that asks a store. */
export interface StoreCallOptions extends CallOptions {
  /** URI of the store, such as `local?root=/mnt`. Undefined: Nix's default store. */
  readonly store?: string | undefined;
}

/**
 * Evaluates an installable of `nix build` without building it. (Evaluation itself may build, if Nix's configuration
 * allows import from derivation.) Leaves the .drv files in the store. Writes no lock file.
 *
 * @param installable such as `nixpkgs#hello` or `.#x^dev,man`; with a file, an attribute path, or `.` for the file's
 *   own value
 * @throws NarswarmError `NIX_MISSING`; `NIX_FAILED` in Nix's own words, or if the value is neither a derivation nor a
 *   string that begins with a store path.
 */
export async function evaluate(
  installable: string,
  options: StoreCallOptions & { readonly file?: string | undefined } = {},
): Promise<Evaluated> {
  const { file } = options;
  const { reference, outputs } = splitOutputs(installable);
  const args = [...FLAKES, 'eval', '--json', '--no-write-lock-file', ...storeArgs(options)];
  args.push('--apply', evaluateExpression(outputs), ...(file === undefined ? [] : ['-f', file]), reference);
  const withoutNix = 'install Nix to evaluate this, or subscribe to a store path or a publisher';
  const result = await runNix('nix', args, { ...options, withoutNix });
  if (result.failed) throw nixFailed(result);
  return parseEvaluated(result.stdout, installable);
}

/**
 * Returns the closure of a path in the store, the path included. For a .drv file, that is all that its build needs.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words, for example if the store does not hold the
 *   path.
 */
export async function queryClosure(path: StorePath, options: StoreCallOptions = {}): Promise<StorePath[]> {
  const result = await runNix('nix-store', ['-qR', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout.split('\n').flatMap((line) => (line === '' ? [] : parseStorePath(line)));
}

/**
 * Returns the .drv path that a path was built from, if the store knows it. The .drv file itself may be gone.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words, for example if the store does not hold the
 *   path.
 */
export async function queryDeriver(path: StorePath, options: StoreCallOptions = {}): Promise<StorePath | undefined> {
  const result = await runNix('nix-store', ['-q', '--deriver', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  const line = result.stdout.trim();
  return line === 'unknown-deriver' ? undefined : parseStorePath(line);
}

/**
 * Returns the realisations of a derivation's outputs in a store. Returns none if it was not built there, or if this Nix
 * has no content-addressed derivations. Builds nothing.
 *
 * @throws NarswarmError `NIX_MISSING`; the signal's reason
 */
export async function queryRealisations(drvPath: StorePath, options: StoreCallOptions = {}): Promise<Realisation[]> {
  const query = ['--extra-experimental-features', 'nix-command ca-derivations', 'realisation', 'info', '--json'];
  const result = await runNix('nix', [...query, ...storeArgs(options), '--max-jobs', '0', drvPath], options);
  return result.failed ? [] : parseRealisations(result.stdout);
}

/**
 * Reads a file of any store, on this machine or elsewhere.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readStoreFile(path: StorePath, options: StoreCallOptions = {}): Promise<string> {
  const result = await runNix('nix', [...NIX_COMMAND, 'store', 'cat', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout;
}

function storeArgs({ store }: StoreCallOptions): string[] {
  return store === undefined ? [] : ['--store', store];
}

/** Returns the lines that `nix-store` prints for paths of the default store, in the order of the paths. */
async function runOverPaths(
  query: readonly string[],
  paths: readonly StorePath[],
  options: CallOptions,
): Promise<string[]> {
  const lines: string[] = [];
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: parallel calls gain nothing
    const result = await runNix('nix-store', [...query, ...chunk], options);
    if (result.failed) throw nixFailed(result);
    if (result.stdout !== '') lines.push(...result.stdout.split('\n'));
  }
  return lines;
}

/** Runs a Nix program to its end. A result with `failed` set is also an execa error, fit to be a cause. */
async function runNix(program: 'nix' | 'nix-store', args: readonly string[], options: RunOptions) {
  const { onLine, signal, temporaryDir, env, withoutNix = WITHOUT_NIX } = options;
  signal?.throwIfAborted();
  const { execa } = await import('execa'); // takes 30 ms, which commands without Nix save
  const result = await execa(program, args, {
    env: { LC_ALL: 'C', NO_COLOR: '1', ...env, ...(temporaryDir === undefined ? {} : { TMPDIR: temporaryDir }) },
    stdin: 'ignore',
    stderr: function* (line: unknown) {
      onLine?.(String(line));
      yield line;
    },
    reject: false,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  if (result.isCanceled) signal?.throwIfAborted();
  if (result.code === 'ENOENT') {
    throw new NarswarmError('NIX_MISSING', `there is no \`${program}\` in PATH: ${withoutNix}`, { cause: result });
  }
  return result;
}

type RunOptions = CallOptions & Pick<CopyRequest, 'onLine'> & Partial<Pick<ExportRequest, 'temporaryDir'>>;
type RunResult = Awaited<ReturnType<typeof runNix>>;

function nixFailed(result: RunResult): NarswarmError {
  const words = lastWordsOf(result);
  const wayOut = DENIED.test(words) ? `: ${OTHER_STORE}` : '';
  return new NarswarmError('NIX_FAILED', `nix failed: ${words}${wayOut}`, { cause: result });
}

/**
 * Matches Nix's complaint (with `LC_ALL=C`) about its own folders, if another user owns the store and no nix-daemon
 * runs.
 */
const DENIED = /\/nix\/(?:var|store)\b[^\n]*(?:Permission denied|Operation not permitted)/;
const OTHER_STORE =
  'this user cannot write the Nix store: start nix-daemon, run this as root, or name another store with --to';

/** Nix (with `LC_ALL=C`) about a failure that no other bytes would mend. */
const OF_TARGET =
  /no space left on device|permission denied|read-only file system|cannot connect|not permitted|valid signature/i;

/**
 * Returns stderr from its last line that begins with `error:`. If there is none, returns the last lines and the exit
 * status.
 */
function lastWordsOf({ stderr, exitCode, signal, originalMessage }: RunResult): string {
  const [, words] = /^(?:[^]*\n)?error:([^]*)$/.exec(stderr) ?? [];
  if (words !== undefined) return words.trim();
  const end = signal === undefined ? (originalMessage ?? `exit status ${exitCode}`) : `killed by ${signal}`;
  return [...stderr.trim().split('\n').slice(-3), `(${end})`].join(' ').trim();
}

/** Returns the last arguments of each `nix copy`, short enough for a command line. */
function argumentsOf(calls: readonly CopyCall[]): string[][] {
  return calls.flatMap(({ isDerivations, paths }) => {
    const kind = isDerivations ? ['--derivation'] : [];
    return chunksOf(paths).map((chunk) => kind.concat(chunk));
  });
}

function chunksOf(paths: readonly StorePath[]): StorePath[][] {
  const count = Math.ceil(paths.length / MAX_PATHS_PER_CALL);
  return Array.from({ length: count }, (_, index) =>
    paths.slice(index * MAX_PATHS_PER_CALL, (index + 1) * MAX_PATHS_PER_CALL),
  );
}
