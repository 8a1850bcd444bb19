/**
 * Types for strings that look alike and must never be mixed. A brand costs nothing at run time. Only the parsers of
 * this folder make them.
 */
declare const brand: unique symbol;
type Brand<Name extends string> = string & { readonly [brand]: Name };

/** The 32 nix32 characters at the start of a store path's base name. */
export type StoreHash = Brand<'StoreHash'>;
/** An absolute store path: `/nix/store/<hash>-<name>`. */
export type StorePath = Brand<'StorePath'>;
/** SHA-256 of the NAR file as it is stored and sent (compressed): 52 nix32 characters, no prefix. */
export type FileHash = Brand<'FileHash'>;
/** SHA-256 of the NAR itself (not compressed): 52 nix32 characters, no prefix. */
export type NarHash = Brand<'NarHash'>;
/** SHA-1 of a torrent's bencoded `info`: 40 lower-case hex characters (BEP 3). */
export type InfoHash = Brand<'InfoHash'>;
