import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from './state-folder.ts';
import type { FileStore } from './file-store.ts';
import { stateOfOwner } from '../disk/owner.ts';
import { systemCode } from '../disk/store-error.ts';
import { untilNobody } from './turn.ts';
import { replaceFile } from '../disk/replace.ts';

/** File in a session's folder that lists the claims of its process. */
export const CLAIMS = 'claims';
/** Lifetime of a claim of another machine. Its process cannot be checked from here. */
const FOREIGN_CLAIM_MS = 7 * 86_400_000;

/** Folders of the state that have sessions. */
export const SESSION_KINDS = ['partial', 'export', 'recompress', 'import', 'mount'] as const;
export type SessionKind = (typeof SESSION_KINDS)[number];

/** A path that must stay in the store until the session of its process ends. */
export interface Claim {
  /** Hash part of a store path whose narinfo and NAR the process needs. */
  readonly storeHash: string;
  /** File in `nar/` that the process needs, if its narinfo may not be there yet. */
  readonly narName?: string | undefined;
}

/**
 * Paths that are claimed. Code that relies on finding them in the store takes this type, so that no code looks first
 * and claims afterwards.
 */
export type Claimed<T> = T & { readonly isClaimed: true };

/** Passes paths to a plan that does not rely on the store: a dry run claims nothing. */
export function forDryRun<T>(paths: T): Claimed<T> {
  return paths as Claimed<T>;
}

/** A session and all its claims so far. */
export interface Claimant {
  path(name: string): string;
  /** Lines of the file. */
  readonly claims: Set<string>;
}

export interface ClaimOptions {
  readonly store: FileStore;
  readonly session: Claimant;
  readonly signal: AbortSignal;
  /** Called if there is a collector to wait for. */
  readonly onWait?: () => void;
}

/** The last write of each session's claims. One waits for the other, or an earlier one could end later. */
const lastWrites = new WeakMap<Claimant, Promise<void>>();

/**
 * Claims paths: nothing claimed is collected while the session lasts. Then waits for a collector that may not have seen
 * them.
 *
 * A process claims first, then looks for a collector. A collector announces itself first, then reads the claims. So at
 * least one of them sees the other.
 *
 * @param claims those of all the paths
 * @param onWait called if there is a collector to wait for
 * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function claim<T>(
  paths: T,
  claims: Iterable<Claim>,
  { store, session, ...options }: ClaimOptions,
): Promise<Claimed<T>> {
  for (const { storeHash, narName = '' } of claims) session.claims.add(`${storeHash} ${narName}\n`);
  const write = (): Promise<void> => replaceFile(session.path(CLAIMS), [...session.claims].join(''));
  const writing = (lastWrites.get(session) ?? Promise.resolve()).then(write, write);
  lastWrites.set(session, writing);
  await writing;
  await untilNobody(store, 'collecting', options);
  return paths as Claimed<T>;
}

/**
 * Yields all claims of processes that are or may be running.
 *
 * @param own folder of a session whose claims are left out. Default: none
 */
export async function* readClaims(store: FileStore, now: Date, own?: string): AsyncGenerator<Claim> {
  for (const { parent, owner } of await sessionsOf(store)) {
    if (join(parent, owner) === own) continue;
    const path = join(parent, owner, CLAIMS);
    const state = await stateOfOwner(owner);
    if (state === 'gone') continue;
    try {
      if (state === 'unknown' && now.getTime() - (await stat(path)).mtimeMs > FOREIGN_CLAIM_MS) continue;
      for (const line of (await readFile(path, 'utf8')).split('\n')) {
        const [storeHash = '', narName] = line.split(' ');
        if (storeHash !== '') yield { storeHash, narName };
      }
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTDIR') throw error;
    }
  }
}

async function sessionsOf(store: FileStore): Promise<{ parent: string; owner: string }[]> {
  const found = SESSION_KINDS.map(async (kind) => {
    const parent = inState(store, kind);
    return (await readdir(parent).catch(() => [])).map((owner) => ({ parent, owner }));
  });
  return (await Promise.all(found)).flat();
}
