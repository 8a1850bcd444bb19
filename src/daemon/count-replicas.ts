import { basename } from 'node:path';
import type { WantedFile } from '../exchange/member.ts';
import { prefixOf } from '../exchange/messages/messages.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { asFileHash } from '../nix/hash.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarOffer } from '../serve/nar-offer.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
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

/** A NAR that this process shares. */
interface SharedNar {
  /** Its file name in `nar/`, also if it is read from the Nix store. */
  readonly nar: string;
  /** The files that have it: the named one, and the uncompressed NAR, which other machines may read from their Nix store. */
  readonly files: readonly WantedFile[];
}

/** A NAR in the closure of a root. */
interface RootNar extends SharedNar {
  readonly sizeBytes: number;
  readonly path: StorePath;
}

/** A file that members are asked about. */
interface AskedFile extends WantedFile {
  readonly of: SharedNar;
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
  const closures = new Map<StorePath, RootNar[]>();
  for (const root of roots) {
    const nars = await sharedNars(store, root, context);
    if (nars !== undefined) closures.set(root, nars);
  }
  const { machines } = census;
  const ofRoots = new Map([...closures.values()].flat().map(({ nar }) => [nar, new Set<string>()]));
  const heldBy = new Map(Array.from(machines, (host) => [host, 0]));
  const sole: string[] = [];
  const count = (nar: string, hosts: ReadonlySet<string>): void => {
    if (hosts.size === 0) sole.push(nar);
    for (const host of hosts) heldBy.set(host, (heldBy.get(host) ?? 0) + 1);
  };
  if (machines.size > 0) {
    offer.lookAtAll();
    const onAnswer = ({ of: { nar } }: AskedFile, hosts: ReadonlySet<string>): void => {
      const known = ofRoots.get(nar);
      if (known === undefined) count(nar, hosts);
      else for (const host of hosts) known.add(host);
    };
    await census.ask(askedFiles(closures, context), onAnswer, signal);
    for (const [nar, hosts] of ofRoots) count(nar, hosts);
  }
  return {
    at: now().toISOString(),
    machines: machines.size,
    roots: Array.from(closures, ([path, nars]) => ({
      path,
      nars: nars.length,
      holders: [...machines].filter((host) => nars.every(({ nar }) => ofRoots.get(nar)?.has(host) === true)).length,
      sole: nars
        .filter(({ nar }) => ofRoots.get(nar)?.size === 0)
        .map(({ nar, path: of, sizeBytes }) => ({ nar, path: of, sizeBytes })),
    })),
    sole,
    held: Object.fromEntries(heldBy),
  };
}

/** Yields the files of NARs that are known to be shared: the closures of the roots, then the rest of the catalogue. */
function* askedFiles(
  closures: ReadonlyMap<StorePath, readonly RootNar[]>,
  { catalogue, offer }: Pick<CountContext, 'catalogue' | 'offer'>,
): Generator<AskedFile> {
  const seen = new Set<FileHash>();
  for (const held of [...closures.values()].flat())
    for (const wanted of held.files) {
      if (!seen.has(wanted.file)) yield { ...wanted, of: held };
      seen.add(wanted.file);
    }
  for (const entry of catalogue.entries()) {
    const { fileHash: file, sizeBytes, extension } = entry;
    if (seen.has(file) || !offer.hasPassed(entry)) continue;
    const nar = basename(FileStore.narUrl(file, extension));
    yield { file, sizeBytes, of: { nar, files: [] } };
  }
}

/** Returns the NARs of a closure, each once. Undefined unless this process is known to share all of them. */
async function sharedNars(store: FileStore, root: StorePath, context: CountContext): Promise<RootNar[] | undefined> {
  const nars = new Map<string, RootNar>();
  const seen = new Set<StoreHash>([storeHashOf(root)]);
  let areShared = true;
  for (const hash of seen) {
    context.signal.throwIfAborted();
    const info = await store.readNarInfo(hash).catch(() => undefined);
    if (info?.fileHash === undefined) return undefined;
    const { fileHash, fileSize: sizeBytes = 0, storePath: path, narHash, narSize } = info;
    const uncompressed = asFileHash(narHash);
    // The first question makes the gate check a NAR, so all are asked about: the next count knows them.
    if (!isShared(fileHash, context) && !isShared(uncompressed, context)) areShared = false;
    for (const name of info.references) seen.add(name.slice(0, 32) as StoreHash);
    const named = { file: fileHash, sizeBytes };
    const files = fileHash === uncompressed ? [named] : [named, { file: uncompressed, sizeBytes: narSize }];
    const nar = basename(info.url);
    nars.set(nar, { nar, files, sizeBytes, path });
  }
  return areShared ? [...nars.values()] : undefined;
}

/** Returns true if members may get the file. Members are not asked about other files. */
function isShared(file: FileHash, { offer }: Pick<CountContext, 'offer'>): boolean {
  return offer.holds(prefixOf(file)) === 'whole';
}
