/**
 * The one place that runs Nix. Written for 2.8 and later: `nix-command` is enabled on each call, and what changed
 * between versions is read defensively. An aborted `signal` ends Nix, or keeps it
 * from being started, and throws the signal's reason.
 */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { parseNixConfig } from './nix-config.ts';
import type { NixConfig } from './nix-config.ts';
import { parseStorePath } from './store-path.ts';

/** The kernel bounds the length of a command line; 1000 store paths stay well below. */
const MAX_PATHS_PER_CALL = 1000;
const NIX_COMMAND = ['--extra-experimental-features', 'nix-command'];
const SHOW_CONFIG = [['config', 'show', '--json'], ['show-config', '--json'], ['config', 'show'], ['show-config']];

/** Options of a call. */
export interface CallOptions {
  /** Ends Nix when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The substituters and keys that the Nix of this machine is configured with, in its order.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readNixConfig(options: CallOptions = {}): Promise<NixConfig> {
  for (const command of SHOW_CONFIG) {
    // oxlint-disable-next-line no-await-in-loop -- each is tried only where this Nix lacks the one before
    const result = await runNix('nix', [...NIX_COMMAND, ...command], options);
    if (!result.failed) return parseNixConfig(result.stdout);
    if (!/not a recogni[sz]ed|unrecogni[sz]ed/.test(result.stderr)) throw nixFailed(result);
  }
  throw new NarswarmError('NIX_FAILED', 'this nix has neither `nix config show` nor `nix show-config`');
}

/**
 * Those of the paths that the store does not hold. A local store that does not exist yet holds none (and Nix creates
 * its empty database).
 *
 * @param store a store URI such as `local?root=/mnt`; undefined for Nix's default store
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
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: nothing is won by more at once
    const result = await runNix('nix-store', [...query, ...chunk], options);
    if (result.failed) throw nixFailed(result);
    for (const line of result.stdout.split('\n')) {
      if (line !== '') invalid.add(parseStorePath(line));
    }
  }
  return invalid;
}

/** What {@link copyClosure} copies, where from and where to. */
export interface CopyRequest extends CallOptions {
  /** URL of the store to copy from, such as `file:///var/cache/narswarm`. */
  readonly from: string;
  /** Store URI to copy to; undefined for Nix's default store. */
  readonly to: string | undefined;
  /** Roots: Nix copies what they refer to along with them. */
  readonly paths: readonly StorePath[];
  /**
   * Keys (`<name>:<base64>`) to trust besides those that Nix is configured with; may be empty. A Nix daemon heeds
   * them from its trusted users only.
   */
  readonly trustedPublicKeys: readonly string[];
  /** Called with each line that Nix says, as it says it. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/**
 * Runs `nix copy`; what the target holds already is not copied again. Nix checks signatures and NarHashes, nothing is
 * fetched from anywhere but `from`.
 *
 * @throws NarswarmError `NIX_MISSING`, or `IMPORT_FAILED` in Nix's own words; `facts.path` is the store path whose NAR
 *   has another hash or size than its narinfo says, where that is the reason.
 */
export async function copyClosure(request: CopyRequest): Promise<void> {
  const { from, to, paths, trustedPublicKeys, onLine, signal } = request;
  const copy = [...NIX_COMMAND, 'copy', '--from', from, ...(to === undefined ? [] : ['--to', to])];
  copy.push('--option', 'substituters', '');
  if (trustedPublicKeys.length > 0) copy.push('--option', 'extra-trusted-public-keys', trustedPublicKeys.join(' '));
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- closures overlap: the next call finds what this one copied
    const result = await runNix('nix', [...copy, ...chunk], { onLine, signal });
    if (!result.failed) continue;
    const [, path] = /(?:hash|size) mismatch importing path '([^']+)'/.exec(result.stderr) ?? [];
    throw new NarswarmError('IMPORT_FAILED', `nix copy from ${from} failed: ${lastWordsOf(result)}`, {
      cause: result,
      facts: { from, to, path },
    });
  }
}

/** Runs a program of Nix to its end. A result that `failed` is an error of execa too, fit to be a cause. */
async function runNix(program: 'nix' | 'nix-store', args: readonly string[], options: RunOptions) {
  const { onLine, signal } = options;
  signal?.throwIfAborted();
  const { execa } = await import('execa'); // 30 ms, which a command that runs no Nix need not wait for
  const result = await execa(program, args, {
    env: { LC_ALL: 'C', NO_COLOR: '1' },
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
    const wayOut =
      'install Nix, or do without: --from and --trusted-public-key stand in for its configuration, --no-copy leaves out the import';
    throw new NarswarmError('NIX_MISSING', `there is no \`${program}\` in PATH: ${wayOut}`, { cause: result });
  }
  return result;
}

type RunOptions = Pick<CopyRequest, 'onLine' | 'signal'>;
type RunResult = Awaited<ReturnType<typeof runNix>>;

function nixFailed(result: RunResult): NarswarmError {
  return new NarswarmError('NIX_FAILED', `nix failed: ${lastWordsOf(result)}`, { cause: result });
}

/** From the last `error:` at the start of a line on; where there is none, the last lines and how Nix ended. */
function lastWordsOf({ stderr, exitCode, signal, originalMessage }: RunResult): string {
  const [, words] = /^(?:[^]*\n)?error:([^]*)$/.exec(stderr) ?? [];
  if (words !== undefined) return words.trim();
  const end = signal === undefined ? (originalMessage ?? `exit status ${exitCode}`) : `killed by ${signal}`;
  return [...stderr.trim().split('\n').slice(-3), `(${end})`].join(' ').trim();
}

function chunksOf(paths: readonly StorePath[]): StorePath[][] {
  const count = Math.ceil(paths.length / MAX_PATHS_PER_CALL);
  return Array.from({ length: count }, (_, index) =>
    paths.slice(index * MAX_PATHS_PER_CALL, (index + 1) * MAX_PATHS_PER_CALL),
  );
}
