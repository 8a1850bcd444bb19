import { isNarswarmError, NarswarmError } from '../errors.ts';
import { walkClosure, type FindNarInfo } from '../fetch/closure.ts';
import { firstTrusted } from '../fetch/find-narinfo.ts';
import { storeSource } from '../fetch/narinfo-sources.ts';
import { assertPublished, collectRecords, type Collected, type LeftOut } from './collect-records.ts';
import { lastManifest, publishIndex, type Publication } from './publication.ts';
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
import { verifiesContentAddress } from '../nix/content-address.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import { verifyNarInfo, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import type { TellHashing } from '../store/hashing.ts';
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
export interface Built extends Omit<Collected, 'records'> {
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
  const { store, keys, tellHashing, signal, recompression } = options;
  await using _ = await Turn.wait(store, 'publishing', { signal }); // two processes would overwrite each other's files
  const contents = await options.contents();
  const roots = contents === 'everything' ? new Map<string, StorePath>() : contents.named;
  const catalogue = await Catalogue.open(store);
  let { infos, leftOut } = await narInfosOf(contents, catalogue, options);
  const recompressed = recompression && (await recompressNars(infos, { ...options, catalogue, recompression }));
  if (recompressed !== undefined && recompressed.old.length > 0)
    ({ infos, leftOut } = await narInfosOf(contents, catalogue, options));
  const asked = await collectRecords(infos, { store, catalogue, keys, tellHashing, signal });
  const collected = { ...asked, leftOut: [...asked.leftOut, ...leftOut] };
  assertPublished(roots, collected);
  if (collected.records.length === 0) {
    const [first] = collected.leftOut;
    const nothing = options.hasPublished === true ? 'nothing-complete' : 'nothing-published';
    const unpublished = first?.reason ?? (contents === 'everything' ? 'empty-store' : nothing);
    throw new NarswarmError(
      unpublished === 'untrusted' ? 'NARINFO_UNTRUSTED' : 'NOT_FOUND',
      `nothing in ${store.dir} can be published`,
      { facts: { store: store.dir, path: first?.storePath, unpublished } },
    );
  }
  const list = new PatchList(store);
  const patched =
    options.deltas &&
    (await makePatches(await pairsOf(collected.records, list, options), { ...options.deltas, store, list, signal }));
  const last =
    options.keepsHints === true ? await lastManifest(store, options.key, options.salt, new Date()) : undefined;
  const key = await options.key.signer();
  const publication = await publishIndex({
    store,
    key,
    salt: options.salt,
    records: withKeptPatches(collected.records, list),
    roots: Array.from(roots, ([name, path]) => ({ name, path })),
    peers: [...new Set([...options.hints, ...(last?.peers ?? [])])],
    peerPort: options.peerPort ?? last?.peerPort,
    now: new Date(),
    validForMs: options.validForMs,
  });
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
  const { infos } = await narInfosOf(await options.contents(), catalogue, options);
  return otherNars(infos, { ...options, catalogue });
}

/**
 * Finds the NARs for which a publication would make patches. Writes nothing.
 *
 * @throws NARINFO_MISSING, NARINFO_UNTRUSTED if a root or a part of its closure is missing
 */
export async function planPatches(options: PatchPlanOptions): Promise<PatchPair[]> {
  const catalogue = await Catalogue.open(options.store);
  const { infos } = await narInfosOf(await options.contents(), catalogue, options);
  return pairsOf(infos, new PatchList(options.store), options);
}

async function pairsOf(records: readonly NarInfo[], list: PatchList, options: PatchPlanOptions): Promise<PatchPair[]> {
  const { store, key, salt, deltas } = options;
  const publicKeyHex = Buffer.from(key.publicKey).toString('hex');
  const earlier = await earlierEditions(store, { publicKey: key.publicKey, publicKeyHex, salt }, new Date());
  for (const path of deltas?.against ?? []) earlier.push(await closureOf([path], options));
  return pairsToPatch(records, earlier, { store, list });
}

async function narInfosOf(
  contents: Contents | 'everything',
  catalogue: Catalogue,
  options: Pick<BuildOptions, 'store' | 'keys' | 'signal'>,
): Promise<{ infos: NarInfo[]; leftOut: LeftOut[] }> {
  if (contents === 'everything') return everything(options.store, options.keys, catalogue);
  return { infos: await closureOf([...contents.named.values(), ...contents.unnamed], options), leftOut: [] };
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

/**
 * Yields every readable narinfo of a store. Narinfos of a source that is trusted without signatures are included only
 * if they are named or belong to a signed closure: such trust does not extend to publishing.
 */
async function everything(
  store: FileStore,
  keys: readonly PublicKey[],
  catalogue: Catalogue,
): Promise<{ infos: NarInfo[]; leftOut: LeftOut[] }> {
  const infos = new Map<string, NarInfo>();
  for (const hash of await store.listStoreHashes()) {
    const info = await store.readNarInfo(hash).catch(() => undefined); // a damaged narinfo is not published
    if (info !== undefined) infos.set(hash, info);
  }
  const asked = new Set<string>();
  for (const [hash, info] of infos) {
    if (verifyNarInfo(info, keys) !== undefined || catalogue.byStorePath(info.storePath) !== undefined) asked.add(hash);
  }
  for (const hash of asked) for (const name of infos.get(hash)?.references ?? []) asked.add(name.slice(0, 32));
  const [taken, left] = [[], []] as [NarInfo[], LeftOut[]];
  for (const [hash, info] of infos) {
    if (asked.has(hash) || !verifiesContentAddress(info)) taken.push(info);
    else left.push({ storePath: info.storePath, reason: 'unasked' });
  }
  return { infos: taken, leftOut: left };
}
