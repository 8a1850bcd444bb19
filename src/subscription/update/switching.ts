/** Lists the changes of a switch from a running profile to a subscription's newest paths. */
import { reachedFrom, topsOf, type Closure } from '../../fetch/walk/closure.ts';
import type { StorePath } from '../../nix/brands.ts';
import { followToStore } from '../../nix/follow-links.ts';
import { queryClosure, queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { packageChanges, type PackageChanges } from '../../nix/package-changes.ts';
import type { StoreCallOptions } from '../../nix/programs/run-nix.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { StoreSession } from '../../nix/programs/store-session.ts';
import type { Subscription } from '../subscription.ts';

export interface Switching extends PackageChanges {
  readonly from: StorePath;
  readonly to: readonly StorePath[];
}

/**
 * Compares the closure of the running system with new closures. Switches nothing.
 *
 * @param subscription with `switchTo`. The running path is looked up in its store if that has it, otherwise in the default one
 * @param main the path that the source stands for. Undefined: all that was fetched
 * @param closures the new closures; they may have sources and inputs of builds, too
 * @throws NOT_FOUND, STORE_PATH_INVALID if `switchTo` leads to no store path; NIX_MISSING, NIX_FAILED if the store does not
 *   hold it; the signal's reason
 */
export async function switchingOf(
  switchTo: string,
  { to: store }: Pick<Subscription, 'to'>,
  main: StorePath | undefined,
  closures: readonly Closure[],
  { storeDir, signal }: { readonly storeDir: string; readonly signal: AbortSignal },
): Promise<Switching> {
  const from = await followToStore(switchTo, storeDir);
  const after = switchedTo(main, closures);
  const before = await runningClosure(from, store, signal);
  return { from, to: main === undefined ? topsOf(after) : [main], ...packageChanges(before, after.values()) };
}

/** Returns the closure that a switch would be to. Leaves out sources and inputs of builds, if one path is switched to. */
export function switchedTo(main: StorePath | undefined, closures: readonly Closure[]): Closure {
  const all: Closure = new Map(closures.flatMap((closure) => [...closure]));
  return main === undefined ? all : reachedFrom([storeHashOf(main)], all).closure;
}

async function runningClosure(
  from: StorePath,
  store: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly storePath: StorePath; readonly narSize: number }[]> {
  const isElsewhere = store !== undefined && (await queryInvalidPaths([from], store, { signal })).size > 0;
  const options: StoreCallOptions = { store: isElsewhere ? undefined : store, signal };
  const paths = await queryClosure(from, options);
  await using session = StoreSession.open(options);
  return await session.queryPathInfos(paths);
}
