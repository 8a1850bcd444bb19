/**
 * Returns the path that `nix copy` reports in a line of its output; undefined for any other line. Nix reports only
 * paths that the target lacked (Nix: src/libstore/store-api.cc, copyPaths).
 */
export function copiedPathIn(line: string): string | undefined {
  return /^copying path '([^']+)'/.exec(line)?.[1];
}
