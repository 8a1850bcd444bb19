import { realpathSync } from 'node:fs';

/** Files that a dynamically linked `/bin/sh` needs. */
const WANTED = ['/bin/sh', '/lib', '/lib64'];

/**
 * Returns a value for Nix's `sandbox-paths` with which a builder can run this machine's `/bin/sh`: each path with the
 * target of its links. Nix copies symbolic links into the sandbox as links
 * (src/libstore/unix/build/local-derivation-goal.cc). On most machines `/bin`, `/lib` and `/bin/sh` are links, and
 * their targets would be missing in the sandbox.
 */
export function sandboxPaths(): string {
  return WANTED.flatMap((path) => {
    const real = realOf(path);
    return real === undefined ? [] : [real === path ? path : `${path}=${real}`];
  }).join(' ');
}

function realOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // such as /lib64 on ARM
  }
}
