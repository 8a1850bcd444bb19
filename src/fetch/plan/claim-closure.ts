import { basename } from 'node:path';
import { claim, type Claimed } from '../../store/claims.ts';
import { FileStore } from '../../store/file-store.ts';
import type { PartialSession } from '../../store/session.ts';
import type { Closure } from '../walk/closure.ts';
import type { Tell } from '../events.ts';
import { namedFile } from './named-file.ts';

/** The parts of a fetch that a claim needs. */
export interface ClaimMeans {
  readonly store: FileStore;
  readonly session: PartialSession;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/** Protects the paths and files of a closure from the garbage collector until the session ends. @throws as {@link claim} */
export function claimClosure(
  closure: Closure,
  { store, session, tell, signal }: ClaimMeans,
): Promise<Claimed<Closure>> {
  const claims = Array.from(closure, ([storeHash, info]) => {
    const file = namedFile(info);
    return { storeHash, narName: file && basename(FileStore.narUrl(file.fileHash, file.extension)) };
  });
  return claim(closure, claims, { store, session, signal, onWait: () => tell({ type: 'waiting-for-gc' }) });
}
