import { readBounded } from '../disk/read-small.ts';
import { fileURLToPath } from 'node:url';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { topsOf, type MissingPath } from '../fetch/walk/closure.ts';
import type { Tell } from '../fetch/events.ts';
import type { Plan } from '../fetch/plan/plan.ts';
import type { PrefetchOptions } from '../fetch/prefetch-options.ts';
import type { PrefetchResult } from '../fetch/prefetch-result.ts';
import { Target } from '../fetch/plan/target.ts';
import { Workplace, type WorkplaceOptions } from '../fetch/workplace.ts';
import type { Upstream } from '../http/upstream.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { baseNameOf, parseStoreHash, storeHashOf } from '../nix/store-path.ts';
import { addPin } from '../store/pins.ts';
import { lackOf } from '../subscription/fetch-resolution.ts';
import type { Lack } from '../subscription/state/missing.ts';
import { takeMaps, type TakenMaps } from './carried-maps.ts';
import { MAX_NARINFO_BYTES } from './narinfos.ts';
import { assertRoom, onBlocks, roomAt } from './room.ts';
import { isSameFolder, readContents, type Contents } from './suitcase.ts';
import { fileSizeOf } from './suitcase-nars.ts';

export interface UnpackOptions extends Omit<WorkplaceOptions, 'network' | 'lanCaches' | 'http'> {
  /** The suitcase. */
  readonly dir: string;
  /** The same as a cache. */
  readonly upstream: Upstream;
  readonly trustedPublicKeys: PrefetchOptions['trustedPublicKeys'];
  /** Publishers that this machine follows. Hash maps of others are left alone. */
  readonly followed: readonly PublisherAddress[];
  /** Publishers that must have built a path with the same result. Default: 1, so none has to know it. */
  readonly require?: number | undefined;
  /** True to import the unpacked paths into a Nix store, `to` or the local one. */
  readonly imports: boolean;
  readonly to?: string | undefined;
  /** True to pin the roots, so that gc keeps them. */
  readonly pins: boolean;
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly tell: Tell;
}

export interface Unpacked extends Pick<PrefetchResult, 'closure' | 'imported' | 'roots' | 'missing'> {
  /** The plans that were carried out: of the roots, and of the references of paths that are not trusted. */
  readonly plans: readonly Plan[];
  readonly contents: Contents;
  readonly maps: TakenMaps;
  readonly pinned: readonly StorePath[];
  /** The reason why something is missing. Undefined if all of the suitcase is here. */
  readonly error: NarswarmError | undefined;
  /** The missing paths, if they are the reason. */
  readonly lack: Lack | undefined;
}

/** Time to look for the hash maps of publishers that count for `require`. Those of the suitcase are here already. */
const VOTING_MS = 1_000;

/**
 * Unpacks a suitcase into the file store: hash maps of followed publishers, then all paths whose narinfos this machine
 * trusts and whose NARs have the signed contents. Paths that do not verify are left out with their referrers. Continues
 * an interrupted run. Asks no other source.
 *
 * @throws NOT_FOUND, STORE_CORRUPT as {@link readContents}; USAGE if it is the file store itself; STORE_FULL before anything is written, if the disk of the file
 *   store has too little room; STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function unpack(options: UnpackOptions): Promise<Unpacked> {
  const { dir, upstream, signal, now, to, imports, dryRun = false } = options;
  const contents = await readContents(dir);
  // What is in the file store counts as verified.
  if (await isSameFolder(dir, options.storeDir))
    throw new NarswarmError('USAGE', `${dir} is the file store itself: name another one with --store`);
  await using workplace = await Workplace.open({ ...options, network: undefined });
  const { store } = workplace;
  const maps = dryRun ? NO_MAPS : await takeMaps(dir, store, options.followed, now);
  let partialBytes = 0;
  const tell: Tell = (event) => {
    if (event.type === 'planned') ({ partialBytes } = event);
    options.tell(event);
  };
  const take = (roots: readonly string[]): Promise<PrefetchResult> =>
    workplace.prefetch(
      {
        roots,
        publishers: [],
        publisherTimeoutMs: VOTING_MS,
        require: options.require,
        voters: options.followed,
        upstreams: [upstream],
        trustedPublicKeys: options.trustedPublicKeys,
        dryRun,
        keepGoing: true,
        copy: imports,
        to: imports ? to : undefined,
        holdAll: true,
        looksInto: 'all',
        wantedOf: (paths) => wantedOf(paths, options),
        onPlanned: async (_closure, plan) => {
          const room = await roomAt(store.dir);
          const sizes = [...plan.jobs.map(({ sizeBytes }) => sizeBytes), ...plan.unsized.map(({ narSize }) => narSize)];
          assertRoom(onBlocks(sizes, room.blockBytes) - partialBytes, room, { dir: store.dir, role: 'store' });
        },
      },
      { tell, signal },
    );
  const result = await take(contents.roots);
  signal.throwIfAborted();
  // The references of a path that is not trusted do not count, so each of them is judged by itself.
  const below = await namedBelow(result.missing, upstream);
  const rest = below.length === 0 ? undefined : await take(below);
  signal.throwIfAborted();
  const toPin = [...result.roots, ...(rest === undefined ? [] : topsOf(rest.closure))];
  const pinned: StorePath[] = [];
  if (options.pins && !dryRun)
    for (const path of new Set(toPin)) pinned.push((await addPin(store, path, now, signal)).storePath);
  const missing = result.missing.map((path) => onlyOn(dir, path));
  const { error = maps.failures[0], lack } = lackOf(missing, [result]);
  return {
    contents,
    closure: new Map([...result.closure, ...(rest?.closure ?? [])]),
    plans: [result.plan, ...(rest === undefined ? [] : [rest.plan])],
    roots: result.roots,
    missing,
    imported: result.imported,
    maps,
    pinned,
    error,
    lack,
  };
}

/** Adds the disk to the facts of a path without a narinfo: it is the only source, so there is one way out. */
function onlyOn(disk: string, missing: MissingPath): MissingPath {
  return missing.isNowhere ? { ...missing, facts: { ...missing.facts, disk } } : missing;
}

const NO_MAPS: TakenMaps = { taken: [], unfollowed: [], failures: [] };

/**
 * Returns the paths whose NARs the store should hold: all, except those whose NAR was left out of the suitcase and that
 * the Nix store of this site holds.
 */
async function wantedOf(
  paths: readonly StorePath[],
  { upstream, imports, to, signal }: UnpackOptions,
): Promise<ReadonlySet<StorePath>> {
  const leftOut: StorePath[] = [];
  for (const path of paths) if (!(await hasNar(path, upstream))) leftOut.push(path);
  if (leftOut.length === 0) return new Set(paths);
  await using target = new Target(imports ? to : undefined, { signal });
  const lacking = await target.invalidPaths(leftOut).catch((error: unknown) => {
    if (isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) return new Set(leftOut);
    throw error;
  });
  const spared = new Set(leftOut.filter((path) => !lacking.has(path)));
  return new Set(paths.filter((path) => !spared.has(path)));
}

/** Returns true if a cache in a folder has the file that its narinfo of a path names. */
async function hasNar(path: StorePath, upstream: Upstream): Promise<boolean> {
  const info = await readUntrusted(storeHashOf(path), upstream);
  try {
    return info !== undefined && fileSizeOf(fileURLToPath(upstream.narUrl(info.url))) !== undefined;
  } catch {
    return false; // the fetch reports its fault
  }
}

/** Returns the hash parts of all paths that narinfos name below the missing paths, trusted or not. */
async function namedBelow(missing: readonly MissingPath[], upstream: Upstream): Promise<StoreHash[]> {
  const tops = missing.map(({ path }) => parseStoreHash(baseNameOf(path as StorePath).slice(0, 32)));
  const seen = new Set<StoreHash>(tops);
  for (const hash of seen)
    for (const name of (await readUntrusted(hash, upstream))?.references ?? [])
      seen.add(parseStoreHash(name.slice(0, 32)));
  for (const hash of tops) seen.delete(hash);
  return [...seen];
}

/** Reads a narinfo of a cache in a folder without a check of its signature. Undefined if there is no sound one. */
async function readUntrusted(hash: StoreHash, upstream: Upstream): Promise<NarInfo | undefined> {
  try {
    const bytes = await readBounded(fileURLToPath(upstream.narInfoUrl(hash)), MAX_NARINFO_BYTES);
    return bytes === undefined ? undefined : parseNarInfo(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
}
