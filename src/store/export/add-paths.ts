import { rm } from 'node:fs/promises';
import { NarswarmError } from '../../errors.ts';
import type { NarHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { signRealisation } from '../../nix/realisation.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { StoreSession } from '../../nix/programs/store-session.ts';
import type { ValidPath } from '../../nix/valid-path.ts';
import { extensionOf, narTorrent } from '../../torrent/canonical.ts';
import { planAddition, type AdditionPlan } from './addition-plan.ts';
import { Catalogue } from '../catalogue/catalogue.ts';
import { contentsOf, entryOf, type CatalogueEntry } from '../catalogue/catalogue-entry.ts';
import { narContentsOf } from '../hashing/hash-nar.ts';
import { PendingExports } from './pending-exports.ts';
import { ExportFolder, type FolderNar } from './export-folder.ts';
import type { FileStore } from '../file-store.ts';
import { localRealisations } from './local-realisations.ts';
import { writeRealisations } from '../realisations.ts';
import { hashNars, type HashItem } from '../hashing/hash-pool.ts';
import type { HashingEvent } from '../hashing/hashing.ts';
import { withSignature, type Signer } from './signer.ts';
import type { NarFormat } from './write-nar.ts';
import type { Warn } from '../../warning.ts';

/** Progress of an addition. Bytes are those of NARs before compression. */
export type AdditionEvent =
  | {
      readonly type: 'exporting';
      readonly nars: number;
      readonly bytes: number;
      /** Bytes of NARs that an interrupted run has completed. */
      readonly keptBytes: number;
    }
  | { readonly type: 'bytes-exported'; readonly bytes: number }
  | { readonly type: 'nar-exported' }
  /** NARs that are here already are read, since the catalogue does not know them. */
  | HashingEvent;

export interface AdditionOptions {
  readonly store: FileStore;
  readonly format: NarFormat;
  /** Undefined: only the signatures of Nix's store are kept. */
  readonly signer: Signer | undefined;
  readonly signal: AbortSignal;
  readonly tell: (event: AdditionEvent) => void;
  readonly onWarning: Warn;
}

/** The result of an addition. */
export interface Addition {
  /** The plan that was carried out. */
  readonly plan: AdditionPlan;
  /** The file store's narinfos of the closure, without those of other builds. In no order. */
  readonly infos: readonly NarInfo[];
  /** Number of exported paths. */
  readonly added: number;
  /** Bytes of their NAR files; paths with the same NAR share one. */
  readonly addedBytes: number;
  /** Bytes of these NARs before compression. */
  readonly addedNarBytes: number;
  /** Bytes of NARs already there that had to be read, since the catalogue did not know them. */
  readonly hashedBytes: number;
  /** Number of narinfos already there that got another signature. */
  readonly signed: number;
}

/**
 * Exports store paths into a file store, and lists them in the catalogue, so that they may be served if a configured key
 * has signed them.
 *
 * NARs are written into a folder of this process first, and checked by NarHash. They are moved to their places once the
 * references of their paths are there. Then the narinfos are written, each after its references. So a killed process
 * leaves neither a narinfo without its NAR nor an unknown file, and the next process uses its complete NARs.
 *
 * Signs the contents of Nix's store, also for narinfos that the file store already had. Makes all signatures itself,
 * equal to those of Nix. Adds the realisations that Nix's store has of the paths.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE; NIX_MISSING, NIX_FAILED; the signal's reason
 */
export async function addPaths(closure: readonly ValidPath[], options: AdditionOptions): Promise<Addition> {
  const { store, signer, signal, format } = options;
  await using folder = await ExportFolder.open(store, 'export');
  const plan = await planAddition(await folder.claim(closure, signal), store);
  const catalogue = await Catalogue.open(store);
  const { sound, damaged, hashedBytes } = await checkHeld(plan.held, store, catalogue, options);
  for (const path of damaged) options.onWarning({ kind: 'exported-again', path });

  const exported = new Set([...plan.missing.map(({ storePath }) => storePath), ...damaged]);
  const paths = plan.closure.map(({ storePath }) => storePath).filter((path) => exported.has(path));
  const found = await pathInfosOf(paths, signal);
  const pending = new PendingExports(found, {
    store,
    folder,
    catalogue,
    compression: format.compression,
    complete: (info) => withSignature(withSignaturesOf(info, plan.bare.get(info.storePath)), signer),
  });
  await exportNars(found, { ...options, folder, pending });
  const infos = [...pending.written];
  const urls = new Set(infos.map(({ url }) => url));
  for (const info of plan.held)
    if (damaged.has(info.storePath) && !urls.has(info.url)) await rm(store.narPath(info), { force: true });

  let signed = 0;
  for (const info of sound) {
    const more = withSignature(info, signer);
    infos.push(more);
    if (more === info) continue;
    await store.rewriteNarInfo(more);
    signed++;
  }
  const realisations = await localRealisations(infos, { storeDir: store.storeDir, signal });
  const vouched = realisations.map((one) => (signer === undefined ? one : signRealisation(one, signer.secretKey)));
  await writeRealisations(vouched, store);
  const { addedBytes, addedNarBytes } = pending;
  return { plan, infos, added: exported.size, addedBytes, addedNarBytes, hashedBytes, signed };
}

/** Asks Nix's store about paths. Returns its records in the order of the paths. */
async function pathInfosOf(paths: readonly StorePath[], signal: AbortSignal): Promise<PathInfo[]> {
  if (paths.length === 0) return [];
  await using session = StoreSession.open({ signal });
  const found = new Map((await session.queryPathInfos(paths)).map((info) => [info.storePath, info]));
  return paths.map((path) => {
    const info = found.get(path);
    if (info !== undefined) return info;
    throw new NarswarmError('NIX_FAILED', `${path} is no longer in the Nix store: build it again (nix build)`, {
      facts: { path },
    });
  });
}

/** Exports the NARs of paths, except for those that an interrupted run has completed. */
async function exportNars(
  infos: readonly PathInfo[],
  options: AdditionOptions & { readonly folder: ExportFolder; readonly pending: PendingExports },
): Promise<void> {
  const { folder, pending, format, signal, tell } = options;
  const wanted = new Map<NarHash, PathInfo>(infos.map((info) => [info.narHash, info]));
  const kept = await folder.takeOver(new Set(wanted.keys()), format, signal);
  const keptBytes = kept.reduce((sum, { narHash }) => sum + (wanted.get(narHash)?.narSize ?? 0), 0);
  const bytes = [...wanted.values()].reduce((sum, { narSize }) => sum + narSize, 0);
  tell({ type: 'exporting', nars: wanted.size, bytes, keptBytes });
  const onNar = async (nar: FolderNar): Promise<void> => {
    tell({ type: 'nar-exported' });
    await pending.take(nar);
  };
  for (const nar of kept) {
    wanted.delete(nar.narHash);
    await onNar(nar);
  }
  const onBytes = (count: number): void => tell({ type: 'bytes-exported', bytes: count });
  await folder.export([...wanted.values()], { format, signal, onBytes, onNar });
  await pending.commit();
}

function withSignaturesOf(info: NarInfo, other: NarInfo | undefined): NarInfo {
  return { ...info, signatures: [...new Set([...info.signatures, ...(other?.signatures ?? [])])] };
}

/**
 * Splits NARs into those with the signed contents and others. Does not read unchanged NARs that the catalogue knows;
 * decompresses the rest. Adds the result to the catalogue, and marks all of them as added.
 */
async function checkHeld(
  held: readonly NarInfo[],
  store: FileStore,
  catalogue: Catalogue,
  { signal, tell }: Pick<AdditionOptions, 'signal' | 'tell'>,
): Promise<{ sound: readonly NarInfo[]; damaged: ReadonlySet<StorePath>; hashedBytes: number }> {
  const entries: CatalogueEntry[] = [];
  const unknown: (HashItem & { readonly info: NarInfo })[] = [];
  for (const info of held) {
    const file = await store.statNar(info);
    const entry = catalogue.knows(info, file);
    if (entry?.torrent !== undefined && contentsOf(entry, info) === 'right') entries.push({ ...entry, askedBy: 'add' });
    else
      unknown.push({ info, path: store.narPath(info), sizeBytes: file?.sizeBytes ?? 0, contents: narContentsOf(info) });
  }
  const damaged = new Set(unknown.map(({ info }) => info.storePath));
  const bytes = unknown.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  tell({ type: 'hashing', nars: unknown.length, bytes });
  let hashedBytes = 0;
  for await (const { item, hashes } of hashNars(unknown, signal)) {
    const { storePath, fileHash, compression } = item.info;
    hashedBytes += hashes.sizeBytes;
    tell({ type: 'nar-hashed', bytes: hashes.sizeBytes });
    if (hashes.fileHash !== fileHash) continue;
    const torrent = narTorrent({ ...hashes, extension: extensionOf(compression) });
    const entry = entryOf(torrent, storePath, hashes.mtimeMs, 'add', hashes.narHash);
    if (contentsOf(entry, item.info) !== 'right') continue;
    damaged.delete(storePath);
    entries.push(entry);
  }
  await catalogue.add(entries);
  return { sound: held.filter(({ storePath }) => !damaged.has(storePath)), damaged, hashedBytes };
}
