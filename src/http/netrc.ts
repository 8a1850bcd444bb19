/** Parses netrc files and looks up hosts, as curl's lib/netrc.c does for Nix. Pure. */

/** The login of one host. */
export interface NetrcEntry {
  /** Lower case; undefined for `default`. */
  readonly machine: string | undefined;
  readonly login: string;
  readonly password: string;
}

/**
 * Reads the entries of a netrc file, in order. A `#` at the start of a word begins a comment. `"…"` may hold spaces and
 * the escapes `\n`, `\r`, `\t`; a backslash before any other character stands for that character. Keywords are in upper
 * or lower case. A `macdef` ends at an empty line. Skips anything else.
 */
export function parseNetrc(text: string): NetrcEntry[] {
  const entries: { machine: string | undefined; login: string; password: string }[] = [];
  const words = wordsOf(text);
  for (let at = 0; at < words.length; at += 1) {
    const keyword = words[at]?.toLowerCase();
    const entry = entries.at(-1);
    if (keyword === 'machine') {
      at += 1;
      entries.push({ machine: words[at]?.toLowerCase() ?? '', login: '', password: '' });
    } else if (keyword === 'default') entries.push({ machine: undefined, login: '', password: '' });
    else if (entry !== undefined && (keyword === 'login' || keyword === 'password')) {
      at += 1;
      entry[keyword] = words[at] ?? '';
    } else if (keyword === 'account') at += 1;
  }
  return entries;
}

/**
 * Finds the first entry for a host that has a login or a password.
 *
 * @param host as in a URL; its port does not count, as in curl
 * @param login the login that the entry must have. Undefined: any
 * @param mayDefault true if `default` counts
 */
export function findInNetrc(
  entries: readonly NetrcEntry[],
  { host, login, mayDefault }: { host: string; login?: string | undefined; mayDefault: boolean },
): NetrcEntry | undefined {
  const name = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  return entries.find(
    (entry) =>
      (entry.machine === undefined ? mayDefault : entry.machine === name) &&
      (login === undefined ? entry.login !== '' || entry.password !== '' : entry.login === login),
  );
}

const WORD = /"((?:[^"\\]|\\.)*)"?|([^\s"]\S*)/gy;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

function wordsOf(text: string): string[] {
  const words: string[] = [];
  let isMacro = false;
  for (const line of text.split(/\r?\n/)) {
    if (isMacro) {
      isMacro = line.trim() !== '';
      continue;
    }
    const found = wordsOfLine(line);
    const macro = found.findIndex((word) => word.toLowerCase() === 'macdef');
    isMacro = macro >= 0 && !['login', 'password'].includes(found[macro - 1]?.toLowerCase() ?? '');
    words.push(...(isMacro ? found.slice(0, macro) : found));
  }
  return words;
}

function wordsOfLine(line: string): string[] {
  const words: string[] = [];
  WORD.lastIndex = 0;
  for (;;) {
    while (/\s/.test(line.charAt(WORD.lastIndex))) WORD.lastIndex += 1;
    if (line.charAt(WORD.lastIndex) === '#') return words;
    const [, quoted, plain] = WORD.exec(line) ?? [];
    const word = quoted?.replace(/\\(.)/g, (_, character: string) => ESCAPES[character] ?? character) ?? plain;
    if (word === undefined) return words;
    words.push(word);
  }
}
