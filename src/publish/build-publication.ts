import { isNarswarmError, NarswarmError } from '../errors.ts';
import { walkClosure, type FindNarInfo } from '../fetch/walk/closure.ts';
import { firstTrusted } from '../fetch/walk/find-narinfo.ts';
import { storeSource } from '../fetch/sources/narinfo-sources.ts';
import { assertPublished, collectRecords, type Collected } from './collect-records.ts';
import { LastRecords } from './last-records.ts';
import { wholeStore } from './whole-store.ts';
import { lastManifest, publishedDir, publishIndex, type Publication } from './publication.ts';
import { earlierEditions } from './earlier-editions.ts';
import {
  makePatches,
  pairsToPatch,
  withKeptPatches,
  type PatchesMade,
  type PatchEvent,
  type PatchPair,
} from './make-deltas.ts';
import { removeReplaced } from './replaced-nars.ts';
import { otherNars, recompressNars, type OtherNar, type Recompressed, type Recompression } from './recompress-nars.ts';
import { PatchList } from '../store/patch-list.ts';
import type { PublisherIdentity } from '../index/publisher-key.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import type { PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { TellHashing } from '../store/hashing/hashing.ts';
import { Turn } from '../store/turn.ts';

export interface BuildOptions {
  readonly store: FileStore;
  /** The key. It is asked to sign only if there is something to sign. */
  readonly key: PublisherIdentity;
  readonly salt: string;
  /** Returns the contents of the hash map, for each edition. `everything`: the whole store. */
  readonly contents: () => Promise<Contents | 'everything'>;
  readonly keys: readonly PublicKey[];
  readonly validForMs: number;
  /** `host:port` of peers for the manifest. */
  readonly hints: readonly string[];
  /** The port for peers of this machine. Undefined if it does not serve any. */
  readonly peerPort?: number | undefined;
  /**
   * True to keep the hints of the last edition, in which a daemon that publishes the same hash map names itself.
   * Default: false.
   */
  readonly keepsHints?: boolean;
  /** True if the configuration names something to publish, even if it is not there yet. Default: false. */
  readonly hasPublished?: boolean;
  /** Set to compress NARs again that are not zstd files. Default: NARs stay as they are. */
  readonly recompression?: Recompression | undefined;
  /** Set to make patches between NARs of earlier editions and those of this one. Default: none are made. */
  readonly deltas?: DeltaMaking | undefined;
  /** Called with the NARs to read, and with each that was read. */
  readonly tellHashing?: TellHashing | undefined;
  readonly signal: AbortSignal;
}

/** Which patches are made. */
export interface DeltaMaking {
  /** Paths whose closures followers may have, besides those of the kept editions. Default: none. */
  readonly against?: readonly StorePath[];
  readonly tell: (event: PatchEvent) => void;
}

type PatchPlanOptions = Pick<BuildOptions, 'store' | 'key' | 'salt' | 'contents' | 'keys' | 'deltas' | 'signal'>;

/** The closures in a hash map. */
export interface Contents {
  /** Roots that followers may ask for by name. */
  readonly named: ReadonlyMap<string, StorePath>;
  readonly unnamed: readonly StorePath[];
}

/** An edition, and the work it took. */
export interface Built extends Omit<Collected, 'records' | 'keptCount'> {
  readonly publication: Publication;
  /** Undefined if NARs stay as they are. */
  readonly recompressed?: Recompressed | undefined;
  /** Undefined if no patches were to be made. */
  readonly patched?: PatchesMade | undefined;
}

/**
 * Builds the hash map of the roots' closures, or of the whole store, on disk.
 *
 * @throws ROOT_UNKNOWN, NARINFO_MISSING, NARINFO_UNTRUSTED if a root or a part of its closure is missing
 */
export async function buildPublication(options: BuildOptions): Promise<Built> {
  const { store, keys, signal, recompression } = options;
  await using _ = await Turn.wait(store, 'publishing', { signal }); // two processes would overwrite each other's files
  const contents = await options.contents();
  const roots = contents === 'everything' ? new Map<string, StorePath>() : contents.named;
  const catalogue = await Catalogue.open(store);
  const recompressed =
    recompression &&
    (await recompressNars(await narInfosOf(contents, catalogue, options), {
      ...options,
      catalogue,
      recompression,
    }));
  const list = new PatchList(store);
  const collected = await collect(contents, { catalogue, list, options });
  assertPublished(roots, collected);
  if (collected.records.length + collected.keptCount === 0) {
    const [first] = collected.leftOut;
    const nothing = options.hasPublished === true ? 'nothing-complete' : 'nothing-published';
    const unpublished = first?.reason ?? (contents === 'everything' ? 'empty-store' : nothing);
    throw new NarswarmError(
      unpublished === 'untrusted' ? 'NARINFO_UNTRUSTED' : 'NOT_FOUND',
      `nothing in ${store.dir} can be published`,
      { facts: { store: store.dir, path: first?.storePath, unpublished } },
    );
  }
  const patched =
    options.deltas &&
    (await makePatches(await pairsOf(collected.records, list, options), { ...options.deltas, store, list, signal }));
  const records =
    patched === undefined ? collected.records : collected.records.map((record) => withKeptPatches(record, list));
  const last =
    options.keepsHints === true ? await lastManifest(store, options.key, options.salt, new Date()) : undefined;
  const key = await options.key.signer();
  const publication = await publishIndex({
    store,
    key,
    salt: options.salt,
    records,
    removed: collected.removed,
    roots: Array.from(roots, ([name, path]) => ({ name, path })),
    peers: [...new Set([...options.hints, ...(last?.peers ?? [])])],
    peerPort: options.peerPort ?? last?.peerPort,
    now: new Date(),
    validForMs: options.validForMs,
  });
  await LastRecords.note(publication.dir, publication.manifestBytes, keys);
  // Before, the last edition would name files that are gone.
  if (recompressed !== undefined) await removeReplaced(store, recompressed.old, signal);
  const { leftOut: left, hashedBytes } = collected;
  return { leftOut: left, hashedBytes, publication, recompressed: recompressed?.done, patched };
}

/**
 * Finds the NARs that a publication would compress again. Writes nothing.
 *
 * @throws NARINFO_MISSING, NARINFO_UNTRUSTED if a root or a part of its closure is missing
 */
export async function planRecompression(
  options: Pick<BuildOptions, 'store' | 'keys' | 'contents' | 'signal'>,
): Promise<OtherNar[]> {
  const catalogue = await Catalogue.open(options.store);
  const infos = await narInfosOf(await options.contents(), catalogue, options);
  return otherNars(infos, { ...options, catalogue });
}

/**
 * Finds the NARs for which a publication would make patches. Writes nothing.
 *
 * @throws NARINFO_MISSING, NARINFO_UNTRUSTED if a root or a part of its closure is missing
 */
export async function planPatches(options: PatchPlanOptions): Promise<PatchPair[]> {
  const catalogue = await Catalogue.open(options.store);
  const infos = await narInfosOf(await options.contents(), catalogue, options);
  return pairsOf(infos, new PatchList(options.store), options);
}

async function pairsOf(records: readonly NarInfo[], list: PatchList, options: PatchPlanOptions): Promise<PatchPair[]> {
  const { store, key, salt, deltas } = options;
  const publicKeyHex = Buffer.from(key.publicKey).toString('hex');
  const earlier = await earlierEditions(store, { publicKey: key.publicKey, publicKeyHex, salt }, new Date());
  for (const path of deltas?.against ?? []) earlier.push(await closureOf([path], options));
  return pairsToPatch(records, earlier, { store, list });
}

/** The records of an edition, or those that the last one lacks. */
interface CollectedChanges extends Collected {
  /** Store hashes of the last edition that are not in this one, or have other records in it. Undefined: there are all records. */
  readonly removed: ReadonlySet<StoreHash> | undefined;
}

/**
 * Collects the records that the last edition lacks. Collects all if the last edition is of no use: patches are made
 * against all, records of named roots are found by the root, and the edition may be damaged, or too small or too large.
 */
async function collect(
  contents: Contents | 'everything',
  {
    catalogue,
    list,
    options,
  }: { readonly catalogue: Catalogue; readonly list: PatchList; readonly options: BuildOptions },
): Promise<CollectedChanges> {
  const { store, salt, keys, key, tellHashing, signal } = options;
  const all = async (last?: LastRecords): Promise<Collected> => {
    const { infos, leftOut } =
      contents === 'everything'
        ? wholeStore(store, keys, catalogue)
        : { infos: await closureOf([...contents.named.values(), ...contents.unnamed], options), leftOut: [] };
    const finish = (record: NarInfo): NarInfo => withKeptPatches(record, list);
    const asked = await collectRecords(infos, { store, catalogue, keys, last, finish, tellHashing, signal });
    return { ...asked, leftOut: [...asked.leftOut, ...leftOut] };
  };
  if (contents === 'everything' && options.deltas === undefined) {
    const publicKeyHex = Buffer.from(key.publicKey).toString('hex');
    try {
      const address = { publicKey: key.publicKey, publicKeyHex, salt };
      const last = await LastRecords.open(address, publishedDir(store, salt), { storeDir: store.storeDir, keys });
      if (last !== undefined) {
        const changes = await all(last);
        const removed = await last.others();
        if (last.isDividedFor(changes.records.length + changes.keptCount)) return { ...changes, removed };
      }
    } catch (error) {
      if (!isNarswarmError(error, 'INDEX_INVALID')) throw error;
    }
  }
  return { ...(await all()), removed: undefined };
}

async function narInfosOf(
  contents: Contents | 'everything',
  catalogue: Catalogue,
  options: Pick<BuildOptions, 'store' | 'keys' | 'signal'>,
): Promise<NarInfo[]> {
  if (contents !== 'everything') return closureOf([...contents.named.values(), ...contents.unnamed], options);
  const infos: NarInfo[] = [];
  for await (const info of wholeStore(options.store, options.keys, catalogue).infos) infos.push(info);
  return infos;
}

async function closureOf(
  paths: readonly StorePath[],
  { store, keys, signal }: Pick<BuildOptions, 'store' | 'keys' | 'signal'>,
): Promise<NarInfo[]> {
  const sources = [await storeSource(store)];
  const trusted = firstTrusted(() => sources, keys);
  // The target vouched for this path, so its NAR is missing. It is reported with the other missing NARs.
  const withoutNar = async (hash: StoreHash): Promise<NarInfo | undefined> => {
    const info = await store.readNarInfo(hash);
    return info !== undefined && isWithoutNar(info) ? info : undefined;
  };
  const find: FindNarInfo = async (...asked) => (await trusted(...asked)) ?? withoutNar(asked[0]);
  const walked = walkClosure(paths.map(storeHashOf), find, { signal });
  return [...(await walked.catch((error: unknown) => Promise.reject(lackingIn(store, error)))).values()];
}

/** Says how to add a path to a store that is published. */
function lackingIn({ dir }: FileStore, error: unknown): unknown {
  if (!isNarswarmError(error, 'NARINFO_MISSING')) return error;
  const { path, referrer } = error.facts;
  const why = referrer === undefined ? '' : `, which ${String(referrer)} refers to`;
  const wayOut = `add it with narswarm add or nix copy --to file://${dir}, or download it with --from`;
  return new NarswarmError(error.code, `${dir} has no narinfo of ${String(path)}${why}: ${wayOut}`, {
    cause: error,
    facts: error.facts,
  });
}
