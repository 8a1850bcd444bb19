/** The script is run by the real zsh, at a terminal of its own, with the line that a person has typed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { describeCommand } from '../../../src/cli/completion/model.ts';
import { zshCompletion } from '../../../src/cli/completion/zsh.ts';
import { program } from '../../../src/cli/program.ts';
import { ODD, ODD_CHOICES, oddProgram } from './odd-program.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'narswarm-zsh-'));
after(() => rmSync(FOLDER, { recursive: true }));
mkdirSync(join(FOLDER, 'somedir'));
writeFileSync(join(FOLDER, 'somefile'), '');
writeFileSync(join(FOLDER, 'narswarm.zsh'), zshCompletion(describeCommand(program()), 'narswarm'));
mkdirSync(join(FOLDER, 'fpath'));
writeFileSync(join(FOLDER, 'fpath', '_odd'), zshCompletion(oddProgram(), 'odd'));

/**
 * Starts with the line editor: types each line, asks for its matches, and writes down what the completion adds for a
 * person to see, in words and in descriptions. No key is pressed, so nothing depends on time.
 */
const STARTUP = `
fpath+=($ZDOTDIR/fpath) # one script is found there, the other is sourced
autoload -Uz compinit; compinit -u -D
source $ZDOTDIR/narswarm.zsh
compadd() {
  if [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
  local -a words; builtin compadd -O words "$@"
  local at=\${@[(i)-*d]} name
  if (( at < $# )) && [[ \${@[at]} == -(d|ld) ]]; then name=\${@[at+1]}; print -rl -- "described \${(@P)^name}" >> $ZDOTDIR/out; fi
  print -rl -- $words >> $ZDOTDIR/out
  builtin compadd "$@"
}
zle-line-init() {
  local line
  while IFS= read -r line; do
    BUFFER=$line CURSOR=$#line
    zle list-choices
    print -r -- end >> $ZDOTDIR/out
  done < $ZDOTDIR/lines
  exit
}
zle -N zle-line-init
`;
writeFileSync(join(FOLDER, '.zshrc'), STARTUP);

/** Words that zsh offers for each line, and after \`described\` what it shows in their place. One zsh for all of them. */
function complete(lines: readonly string[]): string[][] {
  const out = join(FOLDER, 'out');
  writeFileSync(out, '');
  writeFileSync(join(FOLDER, 'lines'), lines.map((line) => `${line}\n`).join(''));
  const env = { PATH: process.env['PATH'] ?? '', HOME: FOLDER, ZDOTDIR: FOLDER, LC_ALL: 'C.UTF-8', TERM: 'dumb' };
  const atTerminal =
    'zmodload zsh/zpty && zpty child zsh -i && while zpty -r child line; do seen+=$line; done; print -rn -- $seen';
  const { status } = spawnSync('zsh', ['-fc', atTerminal], { cwd: FOLDER, env, encoding: 'utf8', timeout: 20_000 });
  assert.equal(status, 0);
  const parts = readFileSync(out, 'utf8').split('end\n');
  assert.equal(parts.length, lines.length + 1, parts.join());
  return parts.slice(0, -1).map((part) => part.split('\n').filter((word) => word !== ''));
}
/** Without descriptions, each once. */
const wordsOf = (offered: readonly string[] | undefined): Set<string> =>
  new Set(offered?.filter((word) => !word.startsWith('described ')));

suite('zsh', () => {
  test('completes commands, options after their command, and values', () => {
    const expected: readonly (readonly [line: string, offered: readonly string[]])[] = [
      ['narswarm fe', ['fetch']],
      ['narswarm fetch --publ', ['--publisher', '--publisher-timeout']],
      ['narswarm key --publ', []],
      ['narswarm fetch --scope ', ['off', 'lan', 'cohort', 'public']],
      ['narswarm fetch --scope=c', ['cohort']],
      ['narswarm key --file some', ['somedir', 'somefile']],
      ['narswarm fetch --store some', ['somedir']],
      ['narswarm fetch --seed-for ', []],
      ['narswarm add x some', ['somedir', 'somefile']],
      ['narswarm completion ', ['bash', 'zsh', 'fish']],
      ['narswarm dht some', []],
    ];
    const offered = complete(expected.map(([line]) => line));
    for (const [index, [line, wanted]] of expected.entries())
      assert.deepEqual(wordsOf(offered[index]), new Set(wanted), line);
  });

  test('shows descriptions as they are, and expands nothing', () => {
    const [command, option, inner, values, operands, hidden] = complete([
      'odd conf',
      'odd run --no',
      'odd config s',
      'odd run --mode ',
      'odd config set ',
      'odd se',
    ]);
    assert.ok(
      command?.some((text) => text.endsWith(ODD)),
      String(command),
    );
    assert.ok(
      option?.some((text) => text.endsWith(ODD)),
      String(option),
    );
    assert.deepEqual(wordsOf(inner), new Set(['set', 'show']));
    assert.deepEqual(wordsOf(values), new Set(ODD_CHOICES));
    assert.deepEqual(wordsOf(operands), new Set(ODD_CHOICES));
    assert.deepEqual(wordsOf(hidden), new Set());
  });
});
