import { hash } from 'node:crypto';
import type { FileHash } from '../nix/brands.ts';

/**
 * Decides which of several processes that want a file fetches it from an upstream, so that they fetch each file once
 * between them. All processes that know the same others decide alike (rendezvous hashing). A process that comes or goes
 * moves only its own share.
 *
 * @param own id of this process
 * @param others ids of the others
 */
export function isOurs(file: FileHash, own: string, others: readonly string[]): boolean {
  const score = (id: string): string => hash('sha1', `${file} ${id}`, 'hex');
  const ours = score(own);
  return others.every((other) => other === own || score(other) < ours);
}
