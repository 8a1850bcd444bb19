/**
 * Content addresses, the `CA` line of a narinfo: the store path follows from a hash of the contents, so the path itself
 * says what it holds and needs no signature (Nix: src/libstore/content-address.cc, store-api.cc, path-info.cc).
 */
import { createHash } from 'node:crypto';
import { isNarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { narHashOf, parseHash, type HashAlgorithm } from './hash.ts';
import { encodeNix32 } from './nix32.ts';
import type { NarInfo } from './narinfo.ts';
import { baseNameOf, storeDirOf, storePathFromBaseName } from './store-path.ts';

/** How the contents were hashed: a text that may refer to paths, one file, the NAR, or as git hashes objects. */
export type IngestionMethod = 'text' | 'flat' | 'nar' | 'git';

/** Contents of a `CA` line. */
export interface ContentAddress {
  readonly method: IngestionMethod;
  readonly algorithm: HashAlgorithm;
  /** The raw hash of the contents. With the method `nar`, references of the path to itself are left out of it. */
  readonly digest: Uint8Array;
}

/** References of a content-addressed path. */
interface References {
  /** Base names of other paths, in any order, repeated or not. */
  readonly others: readonly string[];
  /** Whether the path refers to itself. */
  readonly self: boolean;
}

const PATTERN = /^(?:(text)|fixed(?::(r|git))?):([a-z0-9]+):([^:-]+)$/;
const STORE_HASH_BYTES = 20;
/** Method by the prefix that it has in a `CA` line; without one it is `flat`. */
const METHODS = { r: 'nar', git: 'git' } as const;

/**
 * Reads `text:sha256:<hash>` or `fixed:[r:|git:]<algorithm>:<hash>`, the hash in nix32, hex or base64.
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
 * The store path that follows from a content address, or undefined if no path of that kind may refer to these others
 * (Nix: `makeTextPath`, `makeFixedOutputPath`).
 *
 * @throws NarswarmError `STORE_PATH_INVALID` for a name that no store path has
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
 * Whether a narinfo has a content address from which its store path follows, so that it counts as signed (Nix:
 * `ValidPathInfo::isContentAddressed`). Stricter than Nix where the address is the NAR's own hash: then it has to be
 * NarHash, too. In other cases only the contents tell whether NarHash fits the address: see
 * {@link isAddressedBesideNarHash}. Never throws.
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
 * Whether a narinfo's path follows from a content address that says nothing of NarHash: then nobody vouches for NarHash
 * but its signature, and the contents have to be checked by the address, too ({@link contentsCheckOf}).
 */
export function isAddressedBesideNarHash(info: NarInfo): boolean {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca);
  return address !== undefined && !isNarHash(address, refersToItself(info)) && verifiesContentAddress(info);
}

function refersToItself({ storePath, references }: NarInfo): boolean {
  return references.includes(baseNameOf(storePath));
}

/** Whether a content address is the hash of the NAR as it is. */
function isNarHash({ method, algorithm }: ContentAddress, self: boolean): boolean {
  return method === 'nar' && algorithm === 'sha256' && !self;
}

/** A path of this type, hash and name (Nix: `makeStorePath`). */
function makePath(type: string, hash: string, name: string, storeDir: string): StorePath {
  const digest = createHash('sha256').update(`${type}:${hash}:${storeDir}:${name}`).digest();
  const folded = Buffer.alloc(STORE_HASH_BYTES);
  for (const [index, byte] of digest.entries()) folded[index % STORE_HASH_BYTES]! ^= byte;
  return storePathFromBaseName(`${encodeNix32(folded)}-${name}`, storeDir);
}
