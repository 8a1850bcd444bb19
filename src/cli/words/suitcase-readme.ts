import type { FileStore } from '../../store/file-store.ts';
import type { Contents } from '../../suitcase/suitcase.ts';

/** Roots that the text names. The list of contents has all of them. */
const NAMED_ROOTS = 20;

/** Writes the text for people who find a suitcase. */
export function suitcaseReadme(
  { at, what, roots, since }: Contents,
  { storeDir }: Pick<FileStore, 'storeDir'>,
): string {
  const more = roots.length - NAMED_ROOTS;
  const [root = `${storeDir}/…`] = roots;
  return `This folder is a binary cache of Nix: packages of software, packed by narswarm for a
place without a (fast) connection to the internet. The signatures are those of their makers.

Packed     ${at}
Contents   ${what.join('\n           ')}
${since === undefined ? '' : `Left out   the closure of ${since}\n`}Roots      ${roots.slice(0, NAMED_ROOTS).join('\n           ')}
${more > 0 ? `           and ${more} more (narswarm/suitcase.json has all)\n` : ''}
With narswarm, on one machine of the place (its daemon gives it to all others there):

    narswarm unpack DIR               (DIR is this folder; --import also imports it into Nix)
    narswarm update --from DIR        (for a machine with a subscription)

With plain Nix, which must trust the keys that signed the paths:

    nix copy --from file://DIR ${root}

A file that ends in .part is unfinished; the next narswarm pack continues it.
`;
}
