import { hash } from 'node:crypto';
import type { FileHash } from '../nix/brands.ts';

/**
 * Which of several processes that look for a file is to fetch it from an upstream, so that each file is fetched once between
 * them: the same one for everybody who knows of the same processes (rendezvous hashing). Who comes or goes moves only its
 * own share.
 *
 * @param own id of this process
 * @param others ids of the others
 */
export function isOurs(file: FileHash, own: string, others: readonly string[]): boolean {
  const score = (id: string): string => hash('sha1', `${file} ${id}`, 'hex');
  const ours = score(own);
  return others.every((other) => other === own || score(other) < ours);
}
