/** The real fish runs the script and lists its completions. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { fishCompletion } from '../../../src/cli/shells/fish.ts';
import { describeCommand } from '../../../src/cli/shells/model.ts';
import { program } from '../../../src/cli/program.ts';
import { COMPLETIONS, linesOf, ODD_COMPLETIONS, ODD_DESCRIBED, pathWithSubscriptions, shellFolder } from './lines.ts';
import { ODD, oddProgram } from './odd-program.ts';

const PATH = pathWithSubscriptions();
const FOLDER = shellFolder('fish');
writeFileSync(join(FOLDER, 'narswarm.fish'), fishCompletion(describeCommand(await program()), 'narswarm'));
writeFileSync(join(FOLDER, 'odd.fish'), fishCompletion(oddProgram(), 'odd'));

/** Returns fish's completions of each line, sorted, with their descriptions. Starts one fish for all lines. */
function complete(script: string, lines: readonly string[]): Map<string, string>[] {
  const asks = lines.map((line) => `complete -C ${JSON.stringify(line)}; echo end`);
  const env = { PATH, HOME: FOLDER, LC_ALL: 'C.UTF-8' };
  const args = ['--no-config', '-c', [`source ${script}`, ...asks].join('\n')];
  const { stdout, stderr, status } = spawnSync('fish', args, { cwd: FOLDER, encoding: 'utf8', env });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout
    .split('end\n')
    .slice(0, -1)
    .map((part) => {
      const rows = part.split('\n').flatMap((row) => (row === '' ? [] : [row.split('\t')]));
      return new Map(rows.map(([name = '', description = '']) => [name, description]));
    });
}
const names = (offered: Map<string, string> | undefined): string[] => [...(offered?.keys() ?? [])];

suite('fish', () => {
  test('completes commands, options after their command, and values', () => {
    const offered = complete('narswarm.fish', linesOf(COMPLETIONS));
    for (const [index, [line, words]] of COMPLETIONS.entries()) {
      const [option = ''] = /--\w+=/.exec(line) ?? []; // fish returns the whole word, with its option
      const wanted = words.map((word) => `${option}${word}`).toSorted();
      assert.deepEqual(names(offered[index]), wanted, line);
    }
  });

  test('shows descriptions unchanged, and expands nothing', () => {
    const described = complete('odd.fish', linesOf(ODD_DESCRIBED));
    for (const [index, [line, word]] of ODD_DESCRIBED.entries()) assert.equal(described[index]?.get(word), ODD, line);
    const offered = complete('odd.fish', linesOf(ODD_COMPLETIONS));
    for (const [index, [line, words]] of ODD_COMPLETIONS.entries())
      assert.deepEqual(new Set(names(offered[index])), words, line);
  });
});
