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
  const beginning = fnv1a(`${file} `);
  const ours = score(beginning, own);
  return others.every((other) => {
    if (other === own) return true;
    const theirs = score(beginning, other);
    return theirs === ours ? other < own : theirs < ours;
  });
}

/** Mixes all bits of the hash of a file and an id (the last step of MurmurHash3, 32 bits). */
function score(beginning: number, id: string): number {
  let mixed = fnv1a(id, beginning);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** FNV-1a, 32 bits: asked for every wanted file and neighbour, again and again, where SHA-1 would take most of the time. */
function fnv1a(text: string, hash = 0x811c9dc5): number {
  let result = hash;
  for (let at = 0; at < text.length; at++) result = Math.imul(result ^ text.charCodeAt(at), 0x01000193);
  return result;
}
