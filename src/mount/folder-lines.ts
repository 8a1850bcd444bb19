import type { Attributes, Listed } from './protocol.ts';

/** The names in folders that were listed, in their order, so that a listing can begin anywhere. */
const namesIn = new WeakMap<ReadonlyMap<string, unknown>, readonly string[]>();

/**
 * Yields the lines of a folder from an offset on, each made when it is taken.
 *
 * @param first lines before those of the entries
 */
export function* linesFrom<Entry>(
  offset: number,
  first: readonly Listed[],
  entries: ReadonlyMap<string, Entry>,
  attributesFor: (entry: Entry) => Attributes | undefined,
): Generator<Listed> {
  yield* first.slice(offset);
  const names = namesIn.get(entries) ?? [...entries.keys()];
  namesIn.set(entries, names);
  for (let at = Math.max(0, offset - first.length); at < names.length; at++) {
    const name = names[at]!;
    yield { name, attributes: attributesFor(entries.get(name)!) };
  }
}
