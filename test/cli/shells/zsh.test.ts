/** The real zsh runs the script, at a terminal of its own, with the line that a person has typed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { describeCommand } from '../../../src/cli/shells/model.ts';
import { zshCompletion } from '../../../src/cli/shells/zsh.ts';
import { program } from '../../../src/cli/program.ts';
import { COMPLETIONS, linesOf, ODD_COMPLETIONS, ODD_DESCRIBED, pathWithSubscriptions, shellFolder } from './lines.ts';
import { ODD, oddProgram } from './odd-program.ts';

const PATH = pathWithSubscriptions();
const FOLDER = shellFolder('zsh');
writeFileSync(join(FOLDER, 'narswarm.zsh'), zshCompletion(describeCommand(await program()), 'narswarm'));
mkdirSync(join(FOLDER, 'fpath'));
writeFileSync(join(FOLDER, 'fpath', '_odd'), zshCompletion(oddProgram(), 'odd'));

/**
 * Runs in the line editor: types each line, requests its matches, and records what the completion would show to a
 * person, words and descriptions. No key is pressed, so nothing depends on time.
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

/** Returns zsh's words for each line; after \`described\`, the text that it shows instead. Starts one zsh. */
function complete(lines: readonly string[]): string[][] {
  const out = join(FOLDER, 'out');
  writeFileSync(out, '');
  writeFileSync(join(FOLDER, 'lines'), lines.map((line) => `${line}\n`).join(''));
  const env = { PATH, HOME: FOLDER, ZDOTDIR: FOLDER, LC_ALL: 'C.UTF-8', TERM: 'dumb' };
  const atTerminal =
    'zmodload zsh/zpty && zpty child zsh -i && while zpty -r child line; do seen+=$line; done; print -rn -- $seen';
  const { status } = spawnSync('zsh', ['-fc', atTerminal], { cwd: FOLDER, env, encoding: 'utf8', timeout: 180_000 });
  assert.equal(status, 0);
  const parts = readFileSync(out, 'utf8').split('end\n');
  assert.equal(parts.length, lines.length + 1, parts.join());
  return parts.slice(0, -1).map((part) => part.split('\n').filter((word) => word !== ''));
}
/** Returns the words without descriptions, each once. */
const wordsOf = (offered: readonly string[] | undefined): Set<string> =>
  new Set(offered?.filter((word) => !word.startsWith('described ')));

suite('zsh', () => {
  test('completes commands, options after their command, and values', () => {
    const offered = complete(linesOf(COMPLETIONS));
    for (const [index, [line, words]] of COMPLETIONS.entries()) {
      const wanted = new Set(words.map((word) => word.replace(/\/$/, '')));
      assert.deepEqual(wordsOf(offered[index]), wanted, line);
    }
  });

  test('shows descriptions unchanged, and expands nothing', () => {
    const seen = complete([...linesOf(ODD_DESCRIBED), ...linesOf(ODD_COMPLETIONS)]);
    for (const [index, [line]] of ODD_DESCRIBED.entries()) {
      const texts = seen[index];
      assert.ok(
        texts?.some((text) => text.endsWith(ODD)),
        `${line}: ${String(texts)}`,
      );
    }
    const offered = seen.slice(ODD_DESCRIBED.length);
    for (const [index, [line, words]] of ODD_COMPLETIONS.entries())
      assert.deepEqual(wordsOf(offered[index]), words, line);
  });
});
