/** Returns the name that `text` may have meant. Undefined if none is similar. */
export function nearest(text: string, names: readonly string[]): string | undefined {
  const wanted = plain(text);
  const [best] = names
    .map((name) => ({ name, edits: editsBetween(wanted, plain(name)) }))
    .filter(({ name, edits }) => edits <= Math.max(1, Math.floor(name.length / 3)))
    .toSorted((a, b) => a.edits - b.edits);
  return best?.name;
}

/** Brings names to one spelling: `maxSize`, `max_size` and `MAX-SIZE` are all nearest to `max-size`. */
function plain(name: string): string {
  return name
    .slice(0, 64)
    .replaceAll(/([a-z])([A-Z])/g, '$1-$2')
    .replaceAll('_', '-')
    .toLowerCase();
}

/** Counts the characters to add, drop, replace, or swap with the next one. */
function editsBetween(one: string, other: string): number {
  let above: number[] = [];
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [index, character] of one.split('').entries()) {
    const next = [index + 1];
    for (let column = 0; column < other.length; column++) {
      const replaced = (row[column] ?? 0) + (character === other[column] ? 0 : 1);
      const isSwapped = column > 0 && character === other[column - 1] && one[index - 1] === other[column];
      const swapped = isSwapped ? (above[column - 1] ?? 0) + 1 : Infinity;
      next.push(Math.min(replaced, swapped, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    above = row;
    row = next;
  }
  return row.at(-1) ?? 0;
}
