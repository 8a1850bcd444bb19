/**
 * How the file store keeps NARs that the Nix store of this machine has, too. `compressed`: their files, as long as the
 * budget allows. `recipe`: only the facts that are needed to give them from the Nix store.
 */
export const KEPT_OF_IMPORTED = ['compressed', 'recipe'] as const;
export type KeptOfImported = (typeof KEPT_OF_IMPORTED)[number];
