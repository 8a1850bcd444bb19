/**
 * Content addresses: the `CA` line of a narinfo. The store path is derived from a hash of the contents, so it proves
 * its own contents and needs no signature (Nix: src/libstore/content-address.cc, store-api.cc, path-info.cc).
 */
import { createHash } from 'node:crypto';
import { isNarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { narHashOf, parseHash, type HashAlgorithm } from './hash.ts';
import { encodeNix32 } from './nix32.ts';
import type { NarInfo } from './narinfo.ts';
import { baseNameOf, storeDirOf, storePathFromBaseName } from './store-path.ts';

/** How the contents were hashed: as a text that may refer to paths, as one file, as a NAR, or as a git object. */
export type IngestionMethod = 'text' | 'flat' | 'nar' | 'git';

/** A parsed `CA` line. */
export interface ContentAddress {
  readonly method: IngestionMethod;
  readonly algorithm: HashAlgorithm;
  /** The raw hash of the contents. With the method `nar`, references of the path to itself are left out. */
  readonly digest: Uint8Array;
}

/** References of a content-addressed path. */
interface References {
  /** Base names of other paths, in any order. They may repeat. */
  readonly others: readonly string[];
  /** True if the path refers to itself. */
  readonly self: boolean;
}

const PATTERN = /^(?:(text)|fixed(?::(r|git))?):([a-z0-9]+):([^:-]+)$/;
const STORE_HASH_BYTES = 20;
/** Methods by their prefix in a `CA` line. No prefix means `flat`. */
const METHODS = { r: 'nar', git: 'git' } as const;

/**
 * Reads `text:sha256:<hash>` or `fixed:[r:|git:]<algorithm>:<hash>`. The hash is in nix32, hex or base64.
 *
 * Returns undefined if Nix refuses the text, or needs an experimental algorithm for it (blake3).
 */
export function parseContentAddress(text: string): ContentAddress | undefined {
  const [, isText, prefix, name, digits] = PATTERN.exec(text) ?? [];
  if (name === undefined || name === 'blake3') return undefined;
  try {
    const { algorithm, digest } = parseHash(`${name}:${digits}`);
    const method = isText === undefined ? (prefix === undefined ? 'flat' : METHODS[prefix as 'r' | 'git']) : 'text';
    if (method === 'text' && algorithm !== 'sha256') return undefined;
    if (method === 'git' && algorithm !== 'sha1' && algorithm !== 'sha256') return undefined;
    return { method, algorithm, digest };
  } catch (error) {
    if (isNarswarmError(error, 'HASH_INVALID')) return undefined;
    throw error;
  }
}

/**
 * Derives the store path from a content address. Returns undefined if a path of that kind may not have these references
 * (Nix: `makeTextPath`, `makeFixedOutputPath`).
 *
 * @throws NarswarmError `STORE_PATH_INVALID` if the name is not valid in a store path.
 */
export function contentAddressedPath(
  { method, algorithm, digest }: ContentAddress,
  name: string,
  { others, self }: References,
  storeDir: string,
): StorePath | undefined {
  const hash = `${algorithm}:${Buffer.from(digest).toString('hex')}`;
  const references = [...new Set(others)].toSorted().map((baseName) => `:${storeDir}/${baseName}`);
  if (method === 'text') return self ? undefined : makePath(`text${references.join('')}`, hash, name, storeDir);
  if (method === 'nar' && algorithm === 'sha256') {
    return makePath(`source${references.join('')}${self ? ':self' : ''}`, hash, name, storeDir);
  }
  if (self || references.length > 0) return undefined;
  const prefix = { flat: '', nar: 'r:', git: 'git:' }[method];
  const outer = createHash('sha256').update(`fixed:out:${prefix}${hash}:`).digest('hex');
  return makePath('output:out', `sha256:${outer}`, name, storeDir);
}

/**
 * Returns true if a narinfo's store path follows from its content address, so that the narinfo counts as signed (Nix:
 * `ValidPathInfo::isContentAddressed`). Stricter than Nix: if the address is the hash of the NAR itself, it must equal
 * NarHash. In other cases only the contents show whether NarHash fits: see {@link isAddressedBesideNarHash}. Never
 * throws.
 */
export function verifiesContentAddress(info: NarInfo): boolean {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  if (address === undefined) return false;
  const own = baseNameOf(info.storePath);
  const others = info.references.filter((baseName) => baseName !== own);
  const self = refersToItself(info);
  if (isNarHash(address, self) && narHashOf(address.digest) !== info.narHash) return false;
  return contentAddressedPath(address, own.slice(33), { others, self }, storeDirOf(info.storePath)) === info.storePath;
}

/**
 * Returns true if a narinfo's path follows from a content address that does not cover NarHash. Then only a signature
 * vouches for NarHash, and the contents must be checked against the address, too ({@link contentsCheckOf}).
 */
export function isAddressedBesideNarHash(info: NarInfo): boolean {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  return address !== undefined && !isNarHash(address, refersToItself(info)) && verifiesContentAddress(info);
}

function refersToItself({ storePath, references }: NarInfo): boolean {
  return references.includes(baseNameOf(storePath));
}

/** Returns true if a content address is the plain hash of the NAR. */
function isNarHash({ method, algorithm }: ContentAddress, self: boolean): boolean {
  return method === 'nar' && algorithm === 'sha256' && !self;
}

/** Makes the path of this type, hash and name (Nix: `makeStorePath`). */
function makePath(type: string, hash: string, name: string, storeDir: string): StorePath {
  const digest = createHash('sha256').update(`${type}:${hash}:${storeDir}:${name}`).digest();
  const folded = Buffer.alloc(STORE_HASH_BYTES);
  for (const [index, byte] of digest.entries()) folded[index % STORE_HASH_BYTES]! ^= byte;
  return storePathFromBaseName(`${encodeNix32(folded)}-${name}`, storeDir);
}
