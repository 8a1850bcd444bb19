import { createHash } from 'node:crypto';
import { execa } from 'execa';
import { NarswarmError } from '../errors.ts';
import { PACKAGE_DIR, VERSION } from '../version.ts';

/** This program, as it is copied to hosts that lack it. */
export interface Program {
  /** A gzipped tar with `dist/` and `package.json`. */
  readonly archive: Uint8Array;
  /** Names its contents. */
  readonly id: string;
}

/** Packs this program. @throws HOST_FAILED if there is none that could be copied, as in a checkout that is not built */
export async function packProgram(signal: AbortSignal): Promise<Program> {
  const documents = ['--exclude=dist/man', '--exclude=dist/completions'];
  const { stdout, failed, shortMessage } = await execa(
    'tar',
    ['-C', PACKAGE_DIR, ...documents, '-cz', 'dist', 'package.json'],
    { encoding: 'buffer', reject: false, cancelSignal: signal, maxBuffer: 256e6 },
  );
  signal.throwIfAborted();
  if (failed) throw new NarswarmError('HOST_FAILED', `cannot pack this program for hosts without it: ${shortMessage}`);
  return { archive: stdout, id: `${VERSION}-${createHash('sha256').update(stdout).digest('hex').slice(0, 16)}` };
}

/** Where Nix may have put programs that a shell without a login does not find. */
const MORE_PATH = '/run/current-system/sw/bin:$HOME/.nix-profile/bin:/nix/var/nix/profiles/default/bin';

/**
 * Returns the command for a host's shell: runs `narswarm receive` of this very version. If the host has none, asks for the
 * program on stdout, and reads it from stdin. It stays in the user's cache for the next push.
 *
 * @param args of `narswarm receive`
 */
export function remoteCommand({ archive, id }: Program, args: readonly string[]): string {
  const receive = ['receive', ...args].map(quoted).join(' ');
  const script = `PATH="$PATH:${MORE_PATH}"
export PATH
[ "$(narswarm --version 2>/dev/null)" = ${quoted(VERSION)} ] && exec narswarm ${receive}
all="\${XDG_CACHE_HOME:-$HOME/.cache}/narswarm-program"
own="$all"/${quoted(id)}
node=$(node --version 2>/dev/null)
case "$node" in
  v2[4-9].* | v[3-9][0-9].*) ;;
  *) printf '{"type":"no-node","node":"%s"}\\n' "$node"; exit 0 ;;
esac
if [ ! -f "$own/dist/main.js" ]; then
  (
    umask 077
    new="$all/new.$$"
    trap 'rm -rf "$new"' EXIT
    mkdir -p "$new" || exit
    printf '{"type":"send-program"}\\n'
    head -c ${archive.length} | tar -xzf - -C "$new" || exit
    [ -d "$own" ] || mv "$new" "$own"
  ) || exit
fi
exec node "$own/dist/main.js" ${receive}`;
  return `exec sh -c ${quoted(script)}`;
}

/** Quotes a word for a shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
