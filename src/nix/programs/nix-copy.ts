/** Copies closures between stores with `nix copy`. */
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../brands.ts';
import { callsByKind, callsInOrder, type CopyCall } from '../copy-order.ts';
import { chunksOf, lastWordsOf, NIX_COMMAND, runNix, type CallOptions } from './run-nix.ts';
import type { ValidPath } from '../valid-path.ts';

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
  await copyBy(callsByKind(request.paths), request, []);
}

/**
 * Copies paths without their closures, as {@link copyClosure} does.
 *
 * @param request.paths references first; references to other paths are already in the target
 */
export async function copyPaths(
  request: Omit<CopyRequest, 'paths'> & { readonly paths: readonly Pick<ValidPath, 'storePath' | 'references'>[] },
): Promise<void> {
  await copyBy(callsInOrder(request.paths), request, ['--no-recursive']);
}

async function copyBy(
  calls: readonly CopyCall[],
  request: Omit<CopyRequest, 'paths'>,
  flags: readonly string[],
): Promise<void> {
  const { from, to, trustedPublicKeys, checkSignatures = true, onLine, signal } = request;
  const copy = [...NIX_COMMAND, 'copy', ...flags, '--from', from, ...(to === undefined ? [] : ['--to', to])];
  copy.push('--option', 'substituters', '');
  if (!checkSignatures) copy.push('--no-check-sigs');
  if (trustedPublicKeys.length > 0) copy.push('--option', 'extra-trusted-public-keys', trustedPublicKeys.join(' '));
  for (const args of argumentsOf(calls)) {
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

/** Nix (with `LC_ALL=C`) about a failure that other bytes would not repair. */
const OF_TARGET =
  /no space left on device|permission denied|read-only file system|cannot connect|not permitted|valid signature/i;

/** Returns the last arguments of each `nix copy`, short enough for a command line. */
function argumentsOf(calls: readonly CopyCall[]): string[][] {
  return calls.flatMap(({ isDerivations, paths }) => {
    const kind = isDerivations ? ['--derivation'] : [];
    return chunksOf(paths).map((chunk) => kind.concat(chunk));
  });
}
