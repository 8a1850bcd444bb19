import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from './state-folder.ts';
import type { FileStore } from './file-store.ts';
import { stateOfOwner } from '../disk/owner.ts';
import { systemCode } from '../disk/store-error.ts';
import { untilNobody } from './turn.ts';

/** File in a session's folder that lists what its process relies on. */
export const CLAIMS = 'claims';
/** A claim of another machine, which may be gone for all that anybody here can tell, counts for this long. */
const FOREIGN_CLAIM_MS = 7 * 86_400_000;

/** Folders of the state that sessions are in. */
export const SESSION_KINDS = ['partial', 'export'] as const;
export type SessionKind = (typeof SESSION_KINDS)[number];

/** What a process relies on to stay in the store until its session ends. */
export interface Claim {
  /** Hash part of a store path whose narinfo and NAR it needs. */
  readonly storeHash: string;
  /** File in `nar/` that it counts on, where its narinfo may not be there yet. */
  readonly narName?: string | undefined;
}

/** A session, with all that it has claimed so far. */
export interface Claimant {
  path(name: string): string;
  /** Lines of the file. */
  readonly claims: Set<string>;
}

/**
 * Says what this process relies on, besides what it said before, so that nothing of it is collected while its session
 * lasts, and waits for a collector that may not have seen this. After that, and not before, look which NARs the store
 * holds.
 *
 * Claim first, look for a collector then; a collector announces itself first and reads the claims then: so at least one
 * sees the other.
 *
 * @param onWait told when there is a collector to wait for
 * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function claim(
  store: FileStore,
  session: Claimant,
  claims: Iterable<Claim>,
  options: { signal: AbortSignal; onWait?: () => void },
): Promise<void> {
  for (const { storeHash, narName = '' } of claims) session.claims.add(`${storeHash} ${narName}\n`);
  await store.replace(session.path(CLAIMS), [...session.claims].join(''));
  await untilNobody(store, 'collecting', options);
}

/** Every claim of processes that run, or may run. */
export async function* readClaims(store: FileStore, now: Date): AsyncGenerator<Claim> {
  for (const { parent, owner } of await sessionsOf(store)) {
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
