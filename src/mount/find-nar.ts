import { existsSync } from 'node:fs';
import type { MissingPath } from '../fetch/walk/closure.ts';
import type { PrefetchOptions } from '../fetch/prefetch-options.ts';
import type { Tell } from '../fetch/events.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import type { Workplace } from '../fetch/workplace.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { systemCode } from '../disk/store-error.ts';
import { dumpNars } from '../nix/programs/nar-dump.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { physicalPath } from '../nix/store-place.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { quarantine } from '../store/quarantine.ts';
import { writeBytes, type Unpacker } from './unpacker.ts';
import type { NarAtHand, NarWay } from './unpacked-nars.ts';

/** The sources of a mount, as for a fetch. */
export type MountSources = Pick<
  PrefetchOptions,
  'publishers' | 'require' | 'upstreams' | 'trustedPublicKeys' | 'publisherTimeoutMs' | 'peerTimeoutMs'
>;

export interface FindNarMeans {
  readonly workplace: Workplace;
  readonly sources: MountSources;
  readonly unpacker: Unpacker;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/** Returns the ways to the NAR of a path: the file store, the Nix store of this machine, and a fetch as every other. */
export function waysToNar(info: NarInfo, means: FindNarMeans): readonly NarWay[] {
  return [
    () => narInFileStore(info, means),
    async () => narInNixStore(info, means.signal),
    () => fetchedNar(info, means, 'nothing'),
    async (failure) => {
      // The file is the one that a narinfo names, but does not have the signed contents: other sources may have others.
      if (!isNarswarmError(failure, 'HASH_MISMATCH') || systemCode(failure.cause) === 'ENOENT') return undefined;
      await putAside(info, means.workplace.store);
      return fetchedNar(info, means, 'all');
    },
  ];
}

/** Finds the NAR of a path in the file store. Undefined if that does not have it. */
async function narInFileStore(info: NarInfo, means: FindNarMeans): Promise<NarAtHand | undefined> {
  const { store } = means.workplace;
  const held = await store.readNarInfo(storeHashOf(info.storePath));
  if (held === undefined || namedFile(held) === undefined || (await store.statNar(held)) === undefined)
    return undefined;
  // Only the description of the file comes from that narinfo: everything else was signed.
  return { info, writeTo: (to) => means.unpacker.unpack({ ...held, narSize: info.narSize }, store, to) };
}

/** Finds the NAR of a path in the Nix store of this machine. Undefined if the path is not there. */
function narInNixStore(info: NarInfo, signal: AbortSignal): NarAtHand | undefined {
  const place = physicalPath(info.storePath, process.env['NIX_REMOTE'] ?? '');
  if (place === undefined || !existsSync(place)) return undefined;
  return {
    info,
    async writeTo(to) {
      for await (const { nar } of dumpNars([info], { signal })) await writeBytes(nar, to);
    },
  };
}

/**
 * Fetches the NAR of a path into the file store.
 *
 * @param looksInto `all` to ask other sources if the contents are wrong
 * @throws NAR_UNAVAILABLE and others, also STORE_FULL; the signal's reason
 */
async function fetchedNar(info: NarInfo, means: FindNarMeans, looksInto: 'all' | 'nothing'): Promise<NarAtHand> {
  const { store } = means.workplace;
  const [lack] = await fetchInto([info.storePath], means, looksInto);
  if (lack !== undefined)
    throw new NarswarmError(lack.code ?? 'NAR_UNAVAILABLE', lack.reason, { facts: { ...lack.facts, path: lack.path } });
  const held = await store.readNarInfo(storeHashOf(info.storePath));
  if (held === undefined || namedFile(held) === undefined)
    throw new NarswarmError('NAR_UNAVAILABLE', `the NAR of ${info.storePath} did not stay in ${store.dir}`, {
      facts: { path: info.storePath },
    });
  return { info: held, writeTo: (to) => means.unpacker.unpack(held, store, to) };
}

/**
 * Opens the hash maps of the sources, for all fetches of the mount: those that a fetch opens end with it.
 *
 * @throws the signal's reason
 */
export async function openHashMaps({ workplace, sources, tell, signal }: FindNarMeans): Promise<void> {
  const tellButWalk: Tell = (event) => {
    if (event.type !== 'walking') tell(event); // it walks nothing
  };
  await workplace.prefetch(
    { ...sources, ...ONE_BY_ONE, roots: [], looksInto: 'nothing' },
    { tell: tellButWalk, signal },
  );
}

const ONE_BY_ONE = { onlyRoots: true, keepGoing: true, copy: false } as const;

/** Fetches paths without their references. @returns those that are missing; throws the signal's reason */
async function fetchInto(
  roots: readonly StorePath[],
  { workplace, sources, tell, signal }: FindNarMeans,
  looksInto: 'all' | 'nothing',
): Promise<readonly MissingPath[]> {
  // A signal keeps its listeners, so the signal of the mount would keep each fetch.
  const end = new AbortController();
  try {
    const ends = AbortSignal.any([signal, end.signal]);
    const { missing } = await workplace.prefetch(
      { ...sources, ...ONE_BY_ONE, roots, looksInto },
      { tell, signal: ends },
    );
    signal.throwIfAborted();
    return missing;
  } finally {
    end.abort();
  }
}

/** Puts the file of a NAR aside, so that the next fetch does not rely on it. */
async function putAside({ storePath }: NarInfo, store: FileStore): Promise<void> {
  const held = await store.readNarInfo(storeHashOf(storePath));
  const found = held && (await store.statNar(held));
  if (held !== undefined && found !== undefined) await quarantine(store, store.narPath(held), found);
}
