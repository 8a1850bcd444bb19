/** Lets Nix evaluate. */
import { evaluateExpression, parseEvaluated, splitOutputs, type Evaluated } from '../installable.ts';
import { nixFailed, askNix, storeArgs, type StoreCallOptions } from './run-nix.ts';

export const FLAKES = ['--extra-experimental-features', 'nix-command flakes'];

/**
 * Keeps Nix from the network beside `--offline`, with which it still tries to download what it does not have: a proxy
 * that refuses every connection.
 */
const NOWHERE = 'http://127.0.0.1:9';
export const WITHOUT_NETWORK: Readonly<Record<string, string>> = {
  http_proxy: NOWHERE,
  https_proxy: NOWHERE,
  all_proxy: NOWHERE,
  no_proxy: '',
  GIT_SSH_COMMAND: 'false',
};

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
  options: StoreCallOptions & {
    readonly file?: string | undefined;
    /** True to evaluate without a network: with what is in the store and in Nix's caches of downloads. */
    readonly offline?: boolean;
  } = {},
): Promise<Evaluated> {
  const { file, offline = false } = options;
  const { reference, outputs } = splitOutputs(installable);
  const args = [...FLAKES, 'eval', '--json', '--no-write-lock-file', ...storeArgs(options)];
  if (offline) args.push('--offline');
  args.push('--apply', evaluateExpression(outputs), ...(file === undefined ? [] : ['-f', file]), reference);
  const withoutNix = 'install Nix to evaluate this, or subscribe to a store path or a publisher';
  const result = await askNix('nix', args, {
    ...options,
    withoutNix,
    limitMs: Infinity,
    ...(offline && { env: WITHOUT_NETWORK }),
  });
  if (result.failed) throw nixFailed(result);
  return parseEvaluated(result.stdout, installable);
}
