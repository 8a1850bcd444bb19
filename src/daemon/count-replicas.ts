import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Member, WantedFile } from '../exchange/member.ts';
import type { Members } from '../exchange/members.ts';
import { prefixOf } from '../exchange/messages.ts';
import type { Offer } from '../exchange/offer.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import type { Replicas } from '../store/replicas.ts';

/** How long members may take to say what they have. */
const ANSWER_MS = 15_000;
const LOOK_MS = 100;

/** What copies are counted with. */
export interface CountContext {
  readonly store: FileStore;
  readonly catalogue: Pick<Catalogue, 'entries'>;
  readonly members: Pick<Members, 'open' | 'want' | 'unwant'>;
  /** What this process gives: nobody is asked for anything else. */
  readonly offer: Pick<Offer, 'holds'>;
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
 * left out if some of its closure is not shared, or not known to be by now.
 *
 * @throws the signal's reason
 */
export async function countReplicas(roots: readonly StorePath[], context: CountContext): Promise<Replicas> {
  const { store, members, isOwn, now, signal } = context;
  const closures = new Map<StorePath, HeldFile[]>();
  for (const root of roots) {
    const files = await sharedFiles(store, root, context);
    if (files !== undefined) closures.set(root, files);
  }
  const all = new Map<FileHash, HeldFile>();
  for (const { fileHash: file, sizeBytes, extension } of context.catalogue.entries())
    if (isShared(file, context)) all.set(file, { file, sizeBytes, name: basename(FileStore.narUrl(file, extension)) });
  for (const held of [...closures.values()].flat()) all.set(held.file, held);
  members.want(all.values());
  try {
    await untilKnown(members, signal);
    const machines = [...byHost(members.open, isOwn).values()];
    const has = (machine: readonly Member[], file: FileHash): boolean =>
      machine.some((member) => member.has(file) === 'whole');
    const isSole = (file: FileHash): boolean => !machines.some((machine) => has(machine, file));
    return {
      at: now().toISOString(),
      machines: machines.length,
      roots: Array.from(closures, ([path, files]) => ({
        path,
        nars: files.length,
        holders: machines.filter((machine) => files.every(({ file }) => has(machine, file))).length,
        sole: namesOf(files.filter(({ file }) => isSole(file))),
      })),
      sole: namesOf([...all.values()].filter(({ file }) => isSole(file))),
    };
  } finally {
    members.unwant(all.keys());
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
