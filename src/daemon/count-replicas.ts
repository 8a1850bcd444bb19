import { basename } from 'node:path';
import type { WantedFile } from '../exchange/member.ts';
import { prefixOf } from '../exchange/messages.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarOffer } from '../serve/nar-offer.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import type { Replicas } from '../store/replicas.ts';
import type { Census } from './census.ts';

/** The parts of a process that a count needs. */
export interface CountContext {
  readonly store: FileStore;
  readonly catalogue: Pick<Catalogue, 'entries'>;
  readonly census: Census;
  /** The NARs that this process gives to others: members are asked about these only. */
  readonly offer: Pick<NarOffer, 'holds' | 'hasPassed' | 'lookAtAll'>;
  readonly now: () => Date;
  readonly signal: AbortSignal;
}

interface HeldFile extends WantedFile {
  /** Its file name in `nar/`. */
  readonly nar: string;
}

/** A NAR in the closure of a root. */
interface RootFile extends HeldFile {
  readonly sizeBytes: number;
  readonly path: StorePath;
}

/**
 * Asks the connected members which of the shared NARs they hold. Leaves out a root if part of its closure is not
 * shared, or not yet known to be. Without another machine, asks no questions and looks only at the closures of the
 * roots.
 *
 * @throws the signal's reason
 */
export async function countReplicas(roots: readonly StorePath[], context: CountContext): Promise<Replicas> {
  const { store, census, now, signal, offer } = context;
  const closures = new Map<StorePath, RootFile[]>();
  for (const root of roots) {
    const files = await sharedFiles(store, root, context);
    if (files !== undefined) closures.set(root, files);
  }
  const { machines } = census;
  const ofRoots = new Map([...closures.values()].flat().map(({ file }) => [file, new Set() as ReadonlySet<string>]));
  const heldBy = new Map(Array.from(machines, (host) => [host, 0]));
  const sole: string[] = [];
  if (machines.size > 0) {
    offer.lookAtAll();
    const onAnswer = ({ file, nar }: HeldFile, hosts: ReadonlySet<string>): void => {
      if (hosts.size === 0) sole.push(nar);
      for (const host of hosts) heldBy.set(host, (heldBy.get(host) ?? 0) + 1);
      if (ofRoots.has(file)) ofRoots.set(file, hosts);
    };
    await census.ask(heldFiles(closures, context), onAnswer, signal);
  }
  const has = (host: string, { file }: HeldFile): boolean => ofRoots.get(file)?.has(host) === true;
  const isSole = ({ file }: HeldFile): boolean => ofRoots.get(file)?.size === 0;
  return {
    at: now().toISOString(),
    machines: machines.size,
    roots: Array.from(closures, ([path, files]) => ({
      path,
      nars: files.length,
      holders: [...machines].filter((host) => files.every((held) => has(host, held))).length,
      sole: files.filter(isSole).map(({ nar, path: of, sizeBytes }) => ({ nar, path: of, sizeBytes })),
    })),
    sole: [...new Set(sole)],
    held: Object.fromEntries(heldBy),
  };
}

/** Yields the files that are known to be shared: the closures of the roots, then the rest of the catalogue. */
function* heldFiles(
  closures: ReadonlyMap<StorePath, readonly HeldFile[]>,
  { catalogue, offer }: Pick<CountContext, 'catalogue' | 'offer'>,
): Generator<HeldFile> {
  const seen = new Set<FileHash>();
  for (const held of [...closures.values()].flat()) {
    if (!seen.has(held.file)) yield held;
    seen.add(held.file);
  }
  for (const entry of catalogue.entries()) {
    const { fileHash: file, sizeBytes, extension } = entry;
    if (!seen.has(file) && offer.hasPassed(entry))
      yield { file, sizeBytes, nar: basename(FileStore.narUrl(file, extension)) };
  }
}

/** Returns the NARs of a closure, each once. Undefined unless this process is known to share all of them. */
async function sharedFiles(store: FileStore, root: StorePath, context: CountContext): Promise<RootFile[] | undefined> {
  const files = new Map<FileHash, RootFile>();
  const seen = new Set<StoreHash>([storeHashOf(root)]);
  for (const hash of seen) {
    context.signal.throwIfAborted();
    const info = await store.readNarInfo(hash).catch(() => undefined);
    if (info?.fileHash === undefined || !isShared(info.fileHash, context)) return undefined;
    for (const name of info.references) seen.add(name.slice(0, 32) as StoreHash);
    const { fileHash: file, fileSize: sizeBytes = 0, storePath: path } = info;
    files.set(file, { file, sizeBytes, nar: basename(info.url), path });
  }
  return [...files.values()];
}

/** Returns true if members may get the file. Members are not asked about other files. */
function isShared(file: FileHash, { offer }: Pick<CountContext, 'offer'>): boolean {
  return offer.holds(prefixOf(file)) === 'whole';
}
