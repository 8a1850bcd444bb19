/**
 * How paths get into the target store. `auto`: beside the download by the protocol of the Nix daemon, the rest by `nix
 * copy`. `nix-copy`: all by `nix copy`, after the download.
 */
export const IMPORT_WAYS = ['auto', 'nix-copy'] as const;
export type ImportWay = (typeof IMPORT_WAYS)[number];
