/** The listing of a NAR that caches give beside its narinfo (Nix: src/libutil/nar-listing.cc). Pure. */
import { Tree, TreeBuilder } from './tree.ts';

/** Most bytes of a listing: about 300,000 files. Larger ones are read from the NAR itself. */
export const MAX_LISTING_BYTES = 32 * 1024 * 1024;
/** Most objects of a listing, of which a folder has two. Without it, one of tiny folders would take a gigabyte of memory. */
const MAX_OBJECTS = 600_000;

/**
 * Reads a listing. It is not signed, so its offsets in the NAR are not used.
 *
 * @returns undefined if it is no listing
 */
export function parseListing(bytes: Uint8Array): Tree | undefined {
  if (objectsIn(bytes) > MAX_OBJECTS) return undefined;
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

/** Counts the objects of a JSON text, and braces in its strings. */
function objectsIn(json: Uint8Array): number {
  let count = 0;
  for (const byte of json) if (byte === 0x7b) count++;
  return count;
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
  const { type, size, executable, target, entries } = Object(value) as ListingNode;
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
      const byName = new Map(Object.entries(Object(entries) as object).map(([key, one]) => [asBytes(key), one]));
      for (const key of [...byName.keys()].toSorted(byBytes)) addNode(builder, key, byName.get(key));
      builder.endFolder();
      return;
    }
    default:
      throw new TypeError('a node is a file, a folder or a link');
  }
}

/** Returns the bytes of a text in UTF-8, one a character. */
function asBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function byBytes(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
