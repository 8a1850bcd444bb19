import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Member, WantedFile } from '../exchange/member.ts';
import type { Members } from '../exchange/members.ts';
import { prefixOf } from '../exchange/messages.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarOffer } from '../serve/nar-offer.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import type { Replicas } from '../store/replicas.ts';

/** How long members may take to say what they have. */
const ANSWER_MS = 15_000;
const LOOK_MS = 100;

/** NARs that are asked for at a time: each takes some hundred bytes for as long as it is asked for. */
const NARS_AT_ONCE = 4096;

/** What copies are counted with. */
export interface CountContext {
  readonly store: FileStore;
  readonly catalogue: Pick<Catalogue, 'entries'>;
  readonly members: Pick<Members, 'open' | 'want' | 'unwant'>;
  /** What this process gives: nobody is asked for anything else. */
  readonly offer: Pick<NarOffer, 'holds' | 'hasPassed' | 'lookAtAll'>;
  /** True for an address of this machine. */
  readonly isOwn: (host: string) => boolean;
  readonly now: () => Date;
  readonly signal: AbortSignal;
}

interface HeldFile extends WantedFile {
  readonly name: string;
}

/**
 * Asks the connected members which of the shared NARs they hold. Several processes of one host are one machine. A root is
 * left out if some of its closure is not shared, or not known to be by now. Without another machine nobody is asked, and
 * no more is looked at than the closures of the roots.
 *
 * @throws the signal's reason
 */
export async function countReplicas(roots: readonly StorePath[], context: CountContext): Promise<Replicas> {
  const { store, members, isOwn, now, signal, offer } = context;
  const closures = new Map<StorePath, HeldFile[]>();
  for (const root of roots) {
    const files = await sharedFiles(store, root, context);
    if (files !== undefined) closures.set(root, files);
  }
  const machines = new Set(byHost(members.open, isOwn).keys());
  const ofRoots = new Map([...closures.values()].flat().map((held) => [held.file, new Set<string>()]));
  const sole: string[] = [];
  if (machines.size > 0) {
    offer.lookAtAll();
    for (const files of inParts(heldFiles(closures, context))) {
      for (const [held, hosts] of await holdersOf(files, context)) {
        if (hosts.size === 0) sole.push(held.name);
        if (ofRoots.has(held.file)) ofRoots.set(held.file, hosts);
      }
      signal.throwIfAborted();
    }
  }
  const has = (host: string, { file }: HeldFile): boolean => ofRoots.get(file)?.has(host) === true;
  return {
    at: now().toISOString(),
    machines: machines.size,
    roots: Array.from(closures, ([path, files]) => ({
      path,
      nars: files.length,
      holders: [...machines].filter((host) => files.every((held) => has(host, held))).length,
      sole: namesOf(files.filter(({ file }) => ofRoots.get(file)?.size === 0)),
    })),
    sole: [...new Set(sole)],
  };
}

/** Yields what is shared, as far as it is known: the closures of the roots, then the rest of the catalogue. */
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
      yield { file, sizeBytes, name: basename(FileStore.narUrl(file, extension)) };
  }
}

function* inParts(files: Iterable<HeldFile>): Generator<HeldFile[]> {
  let part: HeldFile[] = [];
  for (const file of files) {
    if (part.push(file) < NARS_AT_ONCE) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

/** Asks which of the other machines hold each of these files. */
async function holdersOf(
  files: readonly HeldFile[],
  { members, isOwn, signal }: Pick<CountContext, 'members' | 'isOwn' | 'signal'>,
): Promise<Map<HeldFile, Set<string>>> {
  members.want(files);
  try {
    await untilKnown(members, signal);
    const machines = [...byHost(members.open, isOwn)];
    const holders = (file: FileHash): string[] =>
      machines.flatMap(([host, own]) => (own.some((member) => member.has(file) === 'whole') ? [host] : []));
    return new Map(files.map((held) => [held, new Set(holders(held.file))]));
  } finally {
    members.unwant(files.map(({ file }) => file));
  }
}

/** The NARs of a closure, each once. Undefined unless this process gives all of them to others, as far as it knows by now. */
async function sharedFiles(store: FileStore, root: StorePath, context: CountContext): Promise<HeldFile[] | undefined> {
  const files = new Map<FileHash, HeldFile>();
  const seen = new Set<StoreHash>([storeHashOf(root)]);
  for (const hash of seen) {
    context.signal.throwIfAborted();
    const info = await store.readNarInfo(hash).catch(() => undefined);
    if (info?.fileHash === undefined || !isShared(info.fileHash, context)) return undefined;
    for (const name of info.references) seen.add(name.slice(0, 32) as StoreHash);
    const { fileHash: file, fileSize: sizeBytes } = info;
    files.set(file, { file, sizeBytes, name: basename(info.url) });
  }
  return [...files.values()];
}

/** Nobody is asked for what is not for them either. */
function isShared(file: FileHash, { offer }: Pick<CountContext, 'offer'>): boolean {
  return offer.holds(prefixOf(file)) === 'whole';
}

function namesOf(files: readonly HeldFile[]): string[] {
  return [...new Set(files.map(({ name }) => name))];
}

async function untilKnown({ open }: Pick<Members, 'open'>, signal: AbortSignal): Promise<void> {
  const untilMs = performance.now() + ANSWER_MS;
  do {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  } while (performance.now() < untilMs && [...open].some(({ isKnown }) => !isKnown));
}

function byHost(open: ReadonlySet<Member>, isOwn: (host: string) => boolean): Map<string, Member[]> {
  const hosts = new Map<string, Member[]>();
  for (const member of open) {
    const { host } = member.peer.endpoint;
    if (!isOwn(host)) hosts.set(host, [...(hosts.get(host) ?? []), member]);
  }
  return hosts;
}
