/** The listing of a NAR that caches give beside its narinfo (Nix: src/libutil/nar-listing.cc). Pure. */
import { Tree, TreeBuilder } from './tree.ts';

/** Most bytes of a listing: about 300,000 files. Larger ones are read from the NAR itself. */
export const MAX_LISTING_BYTES = 32 * 1024 * 1024;
/** Most objects of a listing, of which a folder has two. Without it, one of tiny folders would take a gigabyte of memory. */
const MAX_OBJECTS = 600_000;
/** Most commas and arrays: a file has four at most. 32 MB of zeros would take 5 GB. */
const MAX_COMMAS = 4 * MAX_OBJECTS;
/** Bytes of a listing for each byte of its NAR, which takes 200 for a file. Each byte of a name may be escaped. */
const BYTES_PER_NAR_BYTE = 8;
const LEAST_BYTES = 1_024;

/** Returns the most bytes that a listing of a NAR may have. Its size is signed, so small paths have no large listings. */
export function maxListingBytes(narSize: number): number {
  return Math.min(MAX_LISTING_BYTES, LEAST_BYTES + BYTES_PER_NAR_BYTE * narSize);
}

/**
 * Reads a listing. It is not signed, so its offsets in the NAR are not used.
 *
 * @returns undefined if it is no listing
 */
export function parseListing(bytes: Uint8Array): Tree | undefined {
  if (!isWithinBounds(bytes)) return undefined;
  try {
    const { version, root } = Object(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))) as {
      readonly version?: unknown;
      readonly root?: unknown;
    };
    if (version !== 1) return undefined;
    const builder = new TreeBuilder();
    addNode(builder, '', root);
    return builder.build();
  } catch {
    return undefined;
  }
}

/** Counts what takes memory in a JSON text, and the same characters in its strings. */
function isWithinBounds(json: Uint8Array): boolean {
  let objects = 0;
  let commas = 0;
  for (const byte of json)
    if (byte === 0x7b) objects++;
    else if (byte === 0x2c || byte === 0x5b) commas++;
  return objects <= MAX_OBJECTS && commas <= MAX_COMMAS;
}

/** The fields of a node, which may hold anything. */
interface ListingNode {
  readonly type?: unknown;
  readonly size?: unknown;
  readonly executable?: unknown;
  readonly target?: unknown;
  readonly entries?: unknown;
}

function addNode(builder: TreeBuilder, name: string, value: unknown): void {
  const { type, size, executable, target, entries = {} } = Object(value) as ListingNode;
  switch (type) {
    case 'regular':
      if (typeof size !== 'number') throw new TypeError('a file has a size');
      builder.regular(name, executable === true, size);
      return;
    case 'symlink':
      if (typeof target !== 'string') throw new TypeError('a link has a target');
      builder.symlink(name, asBytes(target));
      return;
    case 'directory': {
      builder.beginFolder(name);
      if (!isFolder(entries)) throw new TypeError('a folder has nodes by their names');
      const byName = new Map(Object.entries(entries).map(([key, one]) => [asBytes(key), one]));
      for (const key of [...byName.keys()].toSorted(byBytes)) addNode(builder, key, byName.get(key));
      builder.endFolder();
      return;
    }
    default:
      throw new TypeError('a node is a file, a folder or a link');
  }
}

/** Says no before anything is made of what is no folder. */
function isFolder(entries: unknown): entries is Readonly<Record<string, object>> {
  if (typeof entries !== 'object' || entries === null || Array.isArray(entries)) return false;
  return Object.values(entries).every((one) => typeof one === 'object');
}

/** Returns the bytes of a text in UTF-8, one a character. */
function asBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function byBytes(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
