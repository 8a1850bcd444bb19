/** Shared by the tests of the shells: a folder to complete in, typed lines, and their completions. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { ODD_CHOICES } from './odd-program.ts';

/** Makes a folder with a folder `some${gap}dir` and a file `some${gap}file`, for the tests of one file. */
export function shellFolder(shell: string, gap = ''): string {
  const folder = mkdtempSync(join(tmpdir(), `narswarm-${shell}-`));
  after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, `some${gap}dir`));
  writeFileSync(join(folder, `some${gap}file`), '');
  return folder;
}

/** Makes a PATH on which narswarm is a script that only lists the subscriptions desktop and stdenv. */
export function pathWithSubscriptions(): string {
  const folder = mkdtempSync(join(tmpdir(), 'narswarm-path-'));
  after(() => rmSync(folder, { recursive: true }));
  const lines = String.raw`desktop  magnet:?xs=x  import\nstdenv   -f /x stdenv\n`;
  const script = `#!/bin/sh\n[ "$*" = 'subscriptions --quiet' ] && printf '${lines}'\n`;
  writeFileSync(join(folder, 'narswarm'), script, { mode: 0o755 });
  return `${folder}:${process.env['PATH'] ?? ''}`;
}

/** Each line with the words that complete its last one; a folder ends in a slash. */
export const COMPLETIONS: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['narswarm fe', ['fetch']],
  ['narswarm fetch --publ', ['--publisher', '--publisher-timeout']],
  ['narswarm key --publ', []],
  ['narswarm fetch --scope ', ['off', 'lan', 'cohort', 'public']],
  ['narswarm fetch --scope=c', ['cohort']],
  ['narswarm key --file some', ['somedir/', 'somefile']],
  ['narswarm fetch --store some', ['somedir/']],
  ['narswarm fetch --seed-for ', []],
  ['narswarm add some', ['somedir/', 'somefile']],
  ['narswarm add x some', ['somedir/', 'somefile']],
  ['narswarm completion ', ['bash', 'zsh', 'fish']],
  ['narswarm dht some', []],
  ['narswarm update ', ['desktop', 'stdenv']],
  ['narswarm status desktop s', ['stdenv']],
  ['narswarm unsubscribe d', ['desktop']],
  ['narswarm subscribe ', []],
];

/** The same for the odd program, in any order. */
export const ODD_COMPLETIONS: readonly (readonly [line: string, offered: ReadonlySet<string>])[] = [
  ['odd config s', new Set(['set', 'show'])],
  ['odd run --mode ', new Set(ODD_CHOICES)],
  ['odd config set ', new Set(ODD_CHOICES)],
  ['odd se', new Set()],
];

/** Lines of the odd program that are completed by one word each, with the odd text as its description. */
export const ODD_DESCRIBED: readonly (readonly [line: string, word: string])[] = [
  ['odd conf', 'config'],
  ['odd run --no', '--no-thing'],
];

export const linesOf = (cases: readonly (readonly [line: string, offered: unknown])[]): string[] =>
  cases.map(([line]) => line);
