/**
 * Words before a command that give it a namespace of its own: `-m` for mounts that vanish with it, `-n` for no
 * network. A user who is not root needs user namespaces, and is root in there.
 */
export function inNamespace(kind: '-m' | '-n'): readonly [string, ...string[]] {
  return ['unshare', ...(process.getuid?.() === 0 ? [] : ['-r']), kind];
}
