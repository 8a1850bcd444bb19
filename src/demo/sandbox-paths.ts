import { realpathSync } from 'node:fs';

/** Files that a dynamically linked `/bin/sh` needs. */
const WANTED = ['/bin/sh', '/lib', '/lib64'];

/**
 * A value of Nix's `sandbox-paths` with which a builder can run this machine's `/bin/sh`: each path with the place that
 * it leads to. Nix of today makes a symbolic link of what is one (src/libstore/unix/build/local-derivation-goal.cc), and
 * on most machines `/bin`, `/lib` and `/bin/sh` are, with nothing of what they lead to in the sandbox.
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
