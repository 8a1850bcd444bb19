/**
 * Registers symbolic links as indirect GC roots, also links to paths that are not valid yet. No command of Nix does that:
 * `nix-store --add-root` wants a valid path, and by then a garbage collector may have taken it.
 */
import type { StoreCallOptions } from '../programs/run-nix.ts';
import { NixWorker } from '../programs/worker.ts';

/**
 * Registers links with a store on this machine. Nix forgets them by itself once they are gone.
 *
 * @param links absolute paths of symbolic links that exist
 * @param options.store a store URI. Undefined: Nix's default store
 * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
 */
export async function addIndirectRoots(links: readonly string[], options: StoreCallOptions = {}): Promise<void> {
  if (links.length === 0) return;
  await using nix = await NixWorker.open(options);
  for (const link of links) await nix.addIndirectRoot(link);
}
