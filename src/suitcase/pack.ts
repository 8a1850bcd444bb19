import { join } from 'node:path';
import { stat } from 'node:fs/promises';
import { stateOfOwner } from '../disk/owner.ts';
import { NarswarmError } from '../errors.ts';
import { referencesFirst, type Closure, type MissingPath } from '../fetch/walk/closure.ts';
import { asLocal } from '../fetch/commit/commit.ts';
import type { Tell } from '../fetch/events.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import type { PrefetchOptions } from '../fetch/prefetch-options.ts';
import { Workplace, type WorkplaceOptions } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { followToStore } from '../nix/follow-links.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { Turn } from '../store/turn.ts';
import { lackOf } from '../subscription/fetch-resolution.ts';
import type { Lack } from '../subscription/state/missing.ts';
import { completeMaps, putMaps, type CarriedMap } from './carried-maps.ts';
import { onDisk } from './disk-error.ts';
import { assertMounted } from './mounted-disk.ts';
import { putNarInfos, putRealisations } from './narinfos.ts';
import { assertFileSizes, assertRoom, onBlocks, roomAt, type Room } from './room.ts';
import { removeLeftovers } from './staged-files.ts';
import { isSameFolder, openSuitcase, putContents, type Contents } from './suitcase.ts';
import { narsOf, planNars, writeNars, wrongNars } from './suitcase-nars.ts';

/** Progress of writing onto the disk. */
export type PackEvent =
  /** NARs that the disk has are read, or NARs are written. `bytes` are those of all of them. */
  | { readonly type: 'checking' | 'packing'; readonly nars: number; readonly bytes: number; readonly keptBytes: number }
  | { readonly type: 'bytes'; readonly bytes: number }
  | { readonly type: 'nar' };

/** The plan of a pack. */
export interface PackPlan {
  readonly paths: number;
  /** Paths that are left out, since the other site has them. Their narinfos are written. */
  readonly leftOut: number;
  /**
   * Paths of the other site that are not known here. They cannot be left out, nor can the paths to which they refer.
   */
  readonly unknown: number;
  /** Paths of `--sources` that no source has. They are left out, too. */
  readonly lacking: number;
  readonly nars: number;
  /** Bytes to write. */
  readonly bytes: number;
  /** Room that these and the narinfos take on the disk. */
  readonly roomBytes: number;
  /** Bytes of NARs that are there already, parts of them included. */
  readonly thereBytes: number;
  /** Bytes that are to be fetched first. */
  readonly fetchBytes: number;
  /** Undefined: the file system does not say. */
  readonly freeBytes: number | undefined;
  /** True if the NARs are linked: they take no room. */
  readonly isLinked: boolean;
}

export interface Packed {
  readonly plan: PackPlan;
  readonly roots: readonly StorePath[];
  /** NARs that were written, and their bytes. */
  readonly nars: number;
  readonly bytes: number;
  /** NARs that were on the disk with wrong bytes, and were written again. */
  readonly mended: number;
  readonly maps: readonly CarriedMap[];
  /** Realisations whose file names the disk refuses. */
  readonly refusedRealisations: number;
  /** The file with the text for people. */
  readonly readme: string;
}

export interface PackOptions extends WorkplaceOptions {
  readonly sources: Pick<
    PrefetchOptions,
    'publishers' | 'require' | 'upstreams' | 'trustedPublicKeys' | 'publisherTimeoutMs' | 'peerTimeoutMs'
  >;
  /** The folder to pack into. */
  readonly dir: string;
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** Paths that are packed if a source has them. */
  readonly optional: ReadonlySet<string>;
  /** Roots that the other site has. Their closure is left out. */
  readonly since: readonly StorePath[];
  /** The hash maps to put into the suitcase, if they are kept here. */
  readonly maps: readonly PublisherAddress[];
  /** True to read the NARs that are on the disk, too. */
  readonly verify: boolean;
  /** Texts about the contents. */
  readonly words: Pick<Contents, 'what' | 'since'>;
  readonly readme: (contents: Contents, suitcase: FileStore) => string;
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly tell: Tell;
  readonly onPlan: (plan: PackPlan) => void;
  readonly onPack: (event: PackEvent) => void;
  /** Makes the error of missing paths. */
  readonly lackError: (
    error: NarswarmError,
    lack: Lack | undefined,
    paths: readonly string[],
  ) => Promise<NarswarmError>;
}

/**
 * Packs closures into a suitcase: NARs, then narinfos, then hash maps, and last the list of contents. Fetches first
 * what the file store lacks. Continues an interrupted run.
 *
 * @throws STORE_FULL before anything is written, if the disk has too little room; as {@link Workplace.prefetch}
 */
export async function pack(options: PackOptions): Promise<Packed> {
  const { dir, dryRun = false, signal, verify } = options;
  await using workplace = await Workplace.open(options);
  const { store } = workplace;
  await assertOtherFolder(store, dir);
  await assertMounted(dir, options.onWarning);
  const { left, unknown } = await closureOf(options.since, workplace, options);
  const room = await roomAt(dir);
  const looked = await openSuitcase(dir, { create: false, storeDir: store.storeDir });
  const isLinked = (await stat(store.dir).catch(() => undefined))?.dev === room.device;
  let plan: PackPlan | undefined;
  const result = await workplace.prefetch(
    {
      ...options.sources,
      roots: options.roots,
      dryRun,
      keepGoing: true,
      copy: false,
      holdAll: true,
      writesReleased: true,
      trustsStore: true,
      looksInto: 'all',
      wantedOf: async (paths) => new Set(paths.filter((path) => !left.has(path))),
      onPlanned: async (closure, { jobBytes, unsized }, missing) => {
        await assertComplete(missing, options);
        const unsizedBytes = unsized.reduce((sum, { narSize }) => sum + narSize, 0);
        const packed = [...closure.values()].filter(({ storePath }) => !left.has(storePath));
        assertFileSizes(narsOf(packed), room, dir);
        plan = planOf(closure, { left, looked, room, isLinked, lacking: missing.length });
        plan = { ...plan, unknown, fetchBytes: jobBytes + unsizedBytes };
        options.onPlan(plan);
        assertRoom(plan.roomBytes, room, { dir, role: 'suitcase' });
      },
    },
    { tell: options.tell, signal },
  );
  signal.throwIfAborted();
  await assertComplete(result.missing, options);
  if (plan === undefined) throw new TypeError('nothing was planned');
  const nothing = {
    plan,
    roots: result.roots,
    nars: 0,
    bytes: 0,
    mended: 0,
    maps: [],
    refusedRealisations: 0,
    readme: '',
  };
  if (dryRun) return nothing;

  const suitcase = await openSuitcase(dir, { create: true, storeDir: store.storeDir });
  await using _turn = await turnOn(suitcase);
  const infos = await heldInfos(result.closure, store);
  const packed = infos.filter(({ storePath }) => !left.has(storePath));
  const lackingFile = packed.find((info) => namedFile(info) === undefined);
  if (lackingFile !== undefined) throw notHeld(lackingFile.storePath, store);
  const nars = narsOf(packed);
  await removeLeftovers(join(dir, 'nar'), new Set(nars.map(({ name }) => name)));
  await removeLeftovers(dir, new Set());
  const { there, toWrite, partBytes } = planNars(nars, suitcase);
  const onBytes = (bytes: number): void => options.onPack({ type: 'bytes', bytes });
  const onNar = (): void => options.onPack({ type: 'nar' });
  const bytesOf = (some: readonly { sizeBytes: number }[]): number => some.reduce((sum, nar) => sum + nar.sizeBytes, 0);
  if (verify) options.onPack({ type: 'checking', nars: there.length, bytes: bytesOf(there), keptBytes: 0 });
  const wrong = verify ? await onDisk(dir, () => wrongNars(there, suitcase, { signal, onBytes, onNar })) : [];
  const all = [...wrong, ...toWrite];
  const bytes = bytesOf(all);
  options.onPack({ type: 'packing', nars: all.length, bytes, keptBytes: partBytes });
  const writing = { source: store, suitcase, signal, onBytes, onNar };
  await writeNars(wrong, { ...writing, mayLink: false });
  await writeNars(toWrite, { ...writing, mayLink: true });
  await putNarInfos(infos, left, suitcase);
  const refusedRealisations = await putRealisations(packed, store, suitcase);
  const { publisherTimeoutMs: timeoutMs } = options.sources;
  await completeMaps(options.maps, workplace, { now: options.now, timeoutMs, signal });
  const maps = await onDisk(dir, () => putMaps(options.maps, store, suitcase, options.now));
  const contents = { ...options.words, at: options.now.toISOString(), roots: result.roots };
  const readme = await putContents(contents, suitcase, options.readme);
  const written = { nars: all.length, bytes: bytes - partBytes, mended: wrong.length };
  return { ...nothing, ...written, maps, refusedRealisations, readme };
}

/** Returns the paths of a closure as far as their narinfos are known, and the number of those that are not. */
async function closureOf(
  roots: readonly StorePath[],
  workplace: Workplace,
  { sources, signal }: PackOptions,
): Promise<{ readonly left: ReadonlySet<StorePath>; readonly unknown: number }> {
  if (roots.length === 0) return { left: new Set(), unknown: 0 };
  // Paths that the other site has are only left out: no publisher has to confirm them.
  const { upstreams, trustedPublicKeys, publisherTimeoutMs } = sources;
  const asked = { upstreams, trustedPublicKeys, publisherTimeoutMs, publishers: [], roots, dryRun: true };
  const { closure, missing } = await workplace.prefetch(
    { ...asked, keepGoing: true, copy: false, holdAll: true, trustsStore: true, wantedOf: async () => new Set() },
    { tell: () => undefined, signal },
  );
  return { left: new Set(Array.from(closure.values(), ({ storePath }) => storePath)), unknown: missing.length };
}

function planOf(
  closure: Closure,
  {
    left,
    looked,
    room,
    isLinked,
    lacking,
  }: {
    readonly left: ReadonlySet<StorePath>;
    readonly looked: FileStore;
    readonly room: Room;
    readonly isLinked: boolean;
    readonly lacking: number;
  },
): PackPlan {
  const packed = [...closure.values()].filter(({ storePath }) => !left.has(storePath));
  const nars = narsOf(packed);
  const unnamed = packed.flatMap((info) => (namedFile(info) === undefined ? [info.narSize] : []));
  const { there, toWrite, partBytes } = planNars(nars, looked);
  const sizes = [...toWrite.map(({ sizeBytes }) => sizeBytes), ...unnamed];
  const bytes = isLinked ? 0 : sizes.reduce((sum, size) => sum + size, 0) - partBytes;
  const narInfos = onBlocks(
    Array.from(closure, () => 1),
    room.blockBytes,
  );
  const roomBytes = isLinked ? narInfos : onBlocks(sizes, room.blockBytes) - partBytes + narInfos;
  return {
    paths: packed.length,
    leftOut: closure.size - packed.length,
    unknown: 0,
    lacking,
    nars: nars.length + unnamed.length,
    bytes,
    roomBytes,
    thereBytes: there.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) + partBytes,
    fetchBytes: 0,
    freeBytes: room.freeBytes,
    isLinked,
  };
}

/** @throws the error of missing paths, unless all of them may be missing */
async function assertComplete(missing: readonly MissingPath[], { optional, lackError }: PackOptions): Promise<void> {
  const needed = missing.filter(({ path, isNowhere }) => !isNowhere || !optional.has(path));
  const { error, lack } = lackOf(needed, []);
  if (error === undefined) return;
  const paths = needed.map(({ path }) => path);
  throw await lackError(error, lack, paths);
}

/** Returns narinfos as the file store has them, references first. */
async function heldInfos(closure: Closure, store: FileStore): Promise<NarInfo[]> {
  const infos: NarInfo[] = [];
  for (const info of referencesFirst(closure))
    infos.push(asLocal((await store.readNarInfo(storeHashOf(info.storePath))) ?? info));
  return infos;
}

/** @throws STORE_BUSY if another process packs into this folder */
async function turnOn(suitcase: FileStore): Promise<Turn> {
  const turn = await onDisk(suitcase.dir, () => Turn.take(suitcase, 'packing'));
  if (turn instanceof Turn) return turn;
  const isElsewhere = (await stateOfOwner(turn)) === 'unknown';
  const where = isElsewhere ? ' on another machine (if it was killed there, it counts as ended ten minutes later)' : '';
  throw new NarswarmError('STORE_BUSY', `another narswarm pack writes to ${suitcase.dir}${where}: wait for its end`, {
    facts: { path: suitcase.dir },
  });
}

/** @throws USAGE if a folder is the file store itself, or in the Nix store: then the folder on the disk was forgotten */
async function assertOtherFolder({ dir: own, storeDir }: FileStore, dir: string): Promise<void> {
  const wayOut = 'name a folder on the disk to pack';
  if (await isSameFolder(own, dir)) throw new NarswarmError('USAGE', `${dir} is the file store itself: ${wayOut}`);
  const inNixStore = await followToStore(dir, storeDir).catch(() => undefined);
  if (inNixStore !== undefined) throw new NarswarmError('USAGE', `${dir} is in the Nix store: ${wayOut} last`);
}

function notHeld(storePath: StorePath, store: FileStore): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', `${store.dir} has no file with the NAR of ${storePath}: fetch it again`, {
    facts: { path: storePath },
  });
}
