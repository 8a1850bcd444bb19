import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheProcess, type CacheProcess } from '../support/cache-process.ts';
import { Lab } from '../support/lab.ts';
import { Lan, type Host, type HostOptions } from '../support/namespaces.ts';
import { Seat, type NixSettings } from './seat.ts';

const CACHE_PORT = 8080;

/** Machines on one network, and a cache behind a slow line whose key all of them trust. */
export interface House extends AsyncDisposable {
  readonly made: MadeClosure;
  readonly cacheHost: Host;
  readonly cache: CacheProcess;
  readonly nix: NixSettings;
  /** Makes one more machine. @param options.config lines of its config file */
  seat(name: string, options?: HostOptions & { readonly config?: string }): Promise<Seat>;
}

/**
 * Opens a house.
 *
 * @param blobs sizes of the closure in the cache
 * @param options.signer name of the cache's key
 * @param options.lineKbit rate of the cache's line
 */
export async function openHouse(
  blobs: readonly number[],
  { signer, lineKbit }: { readonly signer: string; readonly lineKbit: number },
): Promise<House> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await Lab.open());
  const lan = stack.use(Lan.open());
  const made = await lab.closure(blobs, signer);
  const cacheHost = lan.host('cache', { upKbit: lineKbit });
  const cache = stack.use(await startCacheProcess(made.cacheDir, cacheHost.wrapper, CACHE_PORT));
  const nix = { substituter: `http://${cacheHost.ipv4}:${CACHE_PORT}`, publicKey: made.publicKey };
  const owned = stack.move();
  return {
    made,
    cacheHost,
    cache,
    nix,
    seat: (name, options) => Seat.make(lab, lan, name, nix, options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
