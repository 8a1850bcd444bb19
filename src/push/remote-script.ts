import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { execa } from 'execa';
import { EXIT_STATUSES, NarswarmError } from '../errors.ts';
import { PACKAGE_DIR, VERSION } from '../version.ts';

/** This program, as it is copied to hosts that lack it. */
export interface Program {
  /** Names its contents. */
  readonly id: string;
  /** Returns a gzipped tar with `dist/` and `package.json`. It is made for the first host that wants it. */
  readonly archive: () => Promise<Uint8Array>;
}

/** Packs this program. @throws HOST_FAILED if there is none that could be copied, as in a checkout that is not built */
export async function packProgram(signal: AbortSignal): Promise<Program> {
  const documents = ['--exclude=dist/man', '--exclude=dist/completions'];
  const { stdout, failed, shortMessage } = await execa(
    'tar',
    ['-C', PACKAGE_DIR, ...documents, '-c', 'dist', 'package.json'],
    { encoding: 'buffer', reject: false, cancelSignal: signal, maxBuffer: 256e6 },
  );
  signal.throwIfAborted();
  if (failed) throw new NarswarmError('HOST_FAILED', `cannot pack this program for hosts without it: ${shortMessage}`);
  const id = `${VERSION}-${createHash('sha256').update(stdout).digest('hex').slice(0, 16)}`;
  let archive: Promise<Uint8Array> | undefined;
  return { id, archive: () => (archive ??= promisify(gzip)(stdout)) };
}

/** Where Nix may have put programs that a shell without a login does not find. */
const MORE_PATH = '/run/current-system/sw/bin:$HOME/.nix-profile/bin:/nix/var/nix/profiles/default/bin';

/** Copies of the program that a host keeps, those used last. */
const KEPT_COPIES = 3;
/** Exit status of a narswarm that has not this version, or no `receive`, before it reads anything. */
const [REFUSES] = EXIT_STATUSES.USAGE;

/**
 * Returns the command for a host's shell: runs `narswarm receive` of this version. If the host has none, asks for the
 * program on stdout, and reads its size and the program from stdin. It stays in the user's cache for the next push.
 *
 * @param args of `narswarm receive`
 */
export function remoteCommand({ id }: Pick<Program, 'id'>, args: readonly string[]): string {
  const receive = ['receive', '--for', VERSION, ...args].map(quoted).join(' ');
  // The first line ends the one that a shell may have begun, such as a title for its window.
  const script = `echo
printf '{"type":"shell"}\\n'
PATH="$PATH:${MORE_PATH}"
export PATH
if command -v narswarm >/dev/null; then
  narswarm ${receive}
  status=$?
  case $status in
    ${REFUSES} | 126 | 127) ;; # it is another one, or what it needs is not there
    *) exit $status ;;
  esac
fi
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
    read -r size || exit
    head -c "$size" | tar -xzf - -C "$new" || exit
    [ -d "$own" ] || mv "$new" "$own"
  ) || {
    printf '{"type":"not-kept"}\\n'
    exit 1
  }
fi
touch "$own"
ls -t "$all" | tail -n +${KEPT_COPIES + 1} | while read -r old; do
  mv "$all/$old" "$all/old.$$" && rm -rf "$all/old.$$" # in this order: a part of a copy would be taken for one
done
exec node "$own/dist/main.js" ${receive}`;
  return `exec sh -c ${quoted(script)}`;
}

/** Quotes a word for a shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
