/**
 * Words before a command that give it a namespace of its own: `-m` to mount what vanishes with it, `-n` to have no
 * network. Who is not root needs user namespaces, and is root in there.
 */
export function inNamespace(kind: '-m' | '-n'): readonly [string, ...string[]] {
  return ['unshare', ...(process.getuid?.() === 0 ? [] : ['-r']), kind];
}
