import type { StorePath } from '../brands.ts';
import { nixFailed, runNix, type CallOptions } from './run-nix.ts';

/**
 * Lets Nix make the outputs of a derivation in its default store: from a substituter, or by building. For a fixed output
 * that is a download from its own address.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words; the signal's reason
 */
export async function realise(drvPath: StorePath, options: CallOptions = {}): Promise<void> {
  const result = await runNix('nix-store', ['--realise', '--quiet', drvPath], options);
  if (result.failed) throw nixFailed(result);
}
