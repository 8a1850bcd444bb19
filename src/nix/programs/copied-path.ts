/** Returns how many paths `nix copy` is about to copy, from the first line of its output; undefined for any other line. */
export function pathsToCopyIn(line: string): number | undefined {
  const count = /^copying (\d+) paths?\.\.\.$/.exec(line)?.[1];
  return count === undefined ? undefined : Number(count);
}

/**
 * Returns the path that `nix copy` reports in a line of its output; undefined for any other line. Nix reports only
 * paths that the target lacked (Nix: src/libstore/store-api.cc, copyPaths).
 */
export function copiedPathIn(line: string): string | undefined {
  return /^copying path '([^']+)'/.exec(line)?.[1];
}
