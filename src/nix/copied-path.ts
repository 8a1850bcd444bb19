/**
 * The path that `nix copy` says it copies, in a line of what it prints; undefined for any other line. It is said of paths
 * that the target lacked (Nix: src/libstore/store-api.cc, copyPaths).
 */
export function copiedPathIn(line: string): string | undefined {
  return /^copying path '([^']+)'/.exec(line)?.[1];
}
