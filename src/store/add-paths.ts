import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { signRealisation } from '../nix/realisation.ts';
import type { Compression } from '../nix/nix-copy.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { extensionOf, narTorrent } from '../torrent/canonical.ts';
import { planAddition, type AdditionPlan } from './addition-plan.ts';
import { Catalogue } from './catalogue.ts';
import { contentsOf, entryOf, type CatalogueEntry } from './catalogue-entry.ts';
import { narContentsOf } from './hash-nar.ts';
import { ExportFolder } from './export-folder.ts';
import type { FileStore } from './file-store.ts';
import { localRealisations } from './local-realisations.ts';
import { writeRealisations } from './realisations.ts';
import { hashNars, type HashItem } from './hash-pool.ts';
import { withSignature, type Signer } from './signer.ts';
import type { Warn } from '../warning.ts';

/**
 * Limits of one export, in bytes of NARs and in number of paths. Its paths become visible at its end, so an
 * interruption may lose one export.
 */
const BATCH_BYTES = 256e6;
const BATCH_PATHS = 250;

export interface AdditionOptions {
  readonly store: FileStore;
  readonly compression: Compression;
  /** Undefined: only the signatures of Nix's store are kept. */
  readonly signer: Signer | undefined;
  readonly signal: AbortSignal;
  readonly onNixLine: (line: string) => void;
  readonly onWarning: Warn;
}

/** The result of an addition. */
export interface Addition {
  /** The plan that was carried out. */
  readonly plan: AdditionPlan;
  /** Narinfos of the closure as the file store now has them, without those of other builds. In no order. */
  readonly infos: readonly NarInfo[];
  /** Number of exported paths. */
  readonly added: number;
  /** Bytes of their NAR files. */
  readonly addedBytes: number;
  /** Bytes of NARs already there that had to be read, since the catalogue did not know them. */
  readonly hashedBytes: number;
  /** Number of narinfos already there that got another signature. */
  readonly signed: number;
}

/**
 * Exports store paths into a file store with `nix copy`, and lists them in the catalogue, so that they may be served if
 * a configured key has signed them.
 *
 * Nix writes into a folder of this process first. From there, NARs are moved to their places after a check of their
 * SHA-256. Then the narinfos are written, each after its references. So a killed process leaves neither a narinfo
 * without its NAR nor an unknown file.
 *
 * Signs the contents of Nix's store, also for narinfos that the file store already had. Makes all signatures itself,
 * equal to those of Nix. Adds the realisations that Nix's store has of the paths.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE; STORE_CORRUPT if the disk does not keep written data; NIX_FAILED; the signal's
 *   reason
 */
export async function addPaths(closure: readonly ValidPath[], options: AdditionOptions): Promise<Addition> {
  const { store, signer, signal } = options;
  await using folder = await ExportFolder.open(store);
  const plan = await planAddition(await folder.claim(closure, signal), store);
  const catalogue = await Catalogue.open(store);
  const { sound, damaged, hashedBytes } = await checkHeld(plan.held, store, catalogue, signal);
  for (const path of damaged) options.onWarning({ kind: 'exported-again', path });

  const exported = new Set([...plan.missing.map(({ storePath }) => storePath), ...damaged]);
  const infos: NarInfo[] = [];
  let addedBytes = 0;
  for (const batch of batchesOf(plan.closure.filter(({ storePath }) => exported.has(storePath)))) {
    const fresh = await folder.export(batch, options);
    const narInfos = await store.sync();
    for (const { info } of fresh) {
      const signed = withSignature(withSignaturesOf(info, plan.bare.get(info.storePath)), signer);
      await narInfos.write(signed);
      infos.push(signed);
    }
    // Nix has written these files from contents with this NarHash.
    const entries = fresh.map(({ info, torrent, mtimeMs }) =>
      entryOf(torrent, info.storePath, mtimeMs, 'add', info.narHash),
    );
    await catalogue.add(entries);
    addedBytes += fresh.reduce((sum, { torrent }) => sum + torrent.sizeBytes, 0);
  }

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
  return { plan, infos, added: exported.size, addedBytes, hashedBytes, signed };
}

function withSignaturesOf(info: NarInfo, other: NarInfo | undefined): NarInfo {
  return { ...info, signatures: [...new Set([...info.signatures, ...(other?.signatures ?? [])])] };
}

/**
 * Splits NARs into those with the signed contents and others. Does not read unchanged NARs that the catalogue knows;
 * decompresses the rest, and adds the result to the catalogue.
 */
async function checkHeld(
  held: readonly NarInfo[],
  store: FileStore,
  catalogue: Catalogue,
  signal: AbortSignal,
): Promise<{ sound: readonly NarInfo[]; damaged: ReadonlySet<StorePath>; hashedBytes: number }> {
  const unknown: (HashItem & { readonly info: NarInfo })[] = [];
  for (const info of held) {
    const file = await store.statNar(info);
    const entry = catalogue.knows(info, file);
    if (entry?.torrent !== undefined && contentsOf(entry, info) === 'right') continue;
    unknown.push({ info, path: store.narPath(info), sizeBytes: file?.sizeBytes ?? 0, contents: narContentsOf(info) });
  }
  const damaged = new Set(unknown.map(({ info }) => info.storePath));
  const entries: CatalogueEntry[] = [];
  let hashedBytes = 0;
  for await (const { item, hashes } of hashNars(unknown, signal)) {
    const { storePath, fileHash, compression } = item.info;
    hashedBytes += hashes.sizeBytes;
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

function batchesOf(paths: readonly ValidPath[]): ValidPath[][] {
  const batches: ValidPath[][] = [];
  let bytes = BATCH_BYTES;
  for (const path of paths) {
    const last = batches.at(-1);
    if (last === undefined || last.length === BATCH_PATHS || bytes + path.narSize > BATCH_BYTES) {
      batches.push([path]);
      bytes = path.narSize;
    } else {
      last.push(path);
      bytes += path.narSize;
    }
  }
  return batches;
}
