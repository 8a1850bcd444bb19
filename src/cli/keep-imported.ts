import { Option } from 'commander';
import { KEPT_OF_IMPORTED } from '../subscription/room/kept-of-imported.ts';

/** Makes the option of all commands that prune the file store. */
export function keepImported(): Option {
  return new Option(
    '--keep-imported <what>',
    'what to keep of NARs that the Nix store of this machine has, too: recipe gives them to neighbours from there',
  )
    .choices(KEPT_OF_IMPORTED)
    .default('compressed');
}
