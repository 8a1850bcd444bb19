import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { signRealisation } from '../nix/realisation.ts';
import type { Compression } from '../nix/nix-cli.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { extensionOf, narTorrent } from '../torrent/canonical.ts';
import { planAddition, type AdditionPlan } from './addition-plan.ts';
import { Catalogue, contentsOf, entryOf, isPending, type CatalogueEntry } from './catalogue.ts';
import { narContentsOf } from './hash-nar.ts';
import { ExportFolder } from './export-folder.ts';
import type { FileStore } from './file-store.ts';
import { localRealisations } from './local-realisations.ts';
import { writeRealisations } from './realisations.ts';
import { hashNars, type HashItem } from './hash-pool.ts';
import { withSignature, type Signer } from './signer.ts';

/** What is exported at most before it is made visible: what an interruption may cost, in bytes of NARs and in paths. */
const BATCH_BYTES = 256e6;
const BATCH_PATHS = 250;

export interface AdditionOptions {
  readonly store: FileStore;
  readonly compression: Compression;
  /** Absent: the signatures that Nix's store has are all there are. */
  readonly signer: Signer | undefined;
  readonly signal: AbortSignal;
  readonly onNixLine: (line: string) => void;
  readonly onWarning: (message: string) => void;
}

/** What an addition did. */
export interface Addition {
  /** What there was to do. */
  readonly plan: AdditionPlan;
  /** Narinfos of the closure as the file store has them now, but for those of other builds. In no order. */
  readonly infos: readonly NarInfo[];
  /** Paths that were exported. */
  readonly added: number;
  /** Bytes of their NARs, as files. */
  readonly addedBytes: number;
  /** Bytes of NARs that were there before and had to be read, since the catalogue did not know them. */
  readonly hashedBytes: number;
  /** Narinfos that were there before and have one signature more. */
  readonly signed: number;
}

/**
 * Exports store paths into a file store with `nix copy`, and lists them in the catalogue, so that they may be served
 * where a configured key has signed them.
 *
 * Nix writes into a folder of this process first. From there NARs are moved into place when their SHA-256 was checked,
 * then the narinfos are written, each after those that it refers to. So a process that is killed leaves neither a
 * narinfo without its NAR nor a file that nobody knows of.
 *
 * What is signed is what Nix's store holds, also where the narinfo lay in the file store before. The signatures are
 * made here, in one way for both; they are those that Nix makes. Realisations that Nix's store has of the paths go with them.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE; STORE_CORRUPT where the disk does not keep what was written; NIX_FAILED; the
 *   signal's reason
 */
export async function addPaths(closure: readonly ValidPath[], options: AdditionOptions): Promise<Addition> {
  const { store, signer, signal } = options;
  await using folder = await ExportFolder.open(store);
  await folder.claim(closure, signal);
  const plan = await planAddition(closure, store); // after the claim: what it finds stays
  const catalogue = await Catalogue.open(store);
  const { sound, damaged, hashedBytes } = await checkHeld(plan.held, store, catalogue, signal);
  for (const path of damaged) options.onWarning(`the NAR of ${path} was damaged: it is exported again`);

  const exported = new Set([...plan.missing.map(({ storePath }) => storePath), ...damaged]);
  const infos: NarInfo[] = [];
  let addedBytes = 0;
  for (const batch of batchesOf(plan.closure.filter(({ storePath }) => exported.has(storePath)))) {
    const fresh = await folder.export(batch, options);
    await store.sync();
    for (const { info } of fresh) {
      const signed = withSignature(withSignaturesOf(info, plan.bare.get(info.storePath)), signer);
      await store.writeNarInfo(signed);
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
    await store.writeNarInfo(more);
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
 * Tells NARs with the signed contents from others. Those that the catalogue knows, unchanged, are not read; the others
 * are decompressed, and then it knows them.
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
    if (entry !== undefined && !isPending(entry) && contentsOf(entry, info) === 'right') continue;
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
