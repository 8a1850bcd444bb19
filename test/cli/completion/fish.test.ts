/** The script is run by the real fish, which says what it would offer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { fishCompletion } from '../../../src/cli/completion/fish.ts';
import { describeCommand } from '../../../src/cli/completion/model.ts';
import { program } from '../../../src/cli/program.ts';
import { ODD, ODD_CHOICES, oddProgram } from './odd-program.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'narswarm-fish-'));
after(() => rmSync(FOLDER, { recursive: true }));
mkdirSync(join(FOLDER, 'somedir'));
writeFileSync(join(FOLDER, 'somefile'), '');
writeFileSync(join(FOLDER, 'narswarm.fish'), fishCompletion(describeCommand(program()), 'narswarm'));
writeFileSync(join(FOLDER, 'odd.fish'), fishCompletion(oddProgram(), 'odd'));

/** What fish offers for each line, in the order of the alphabet, and what it says of it. One fish for all of them. */
function complete(script: string, lines: readonly string[]): Map<string, string>[] {
  const asks = lines.map((line) => `complete -C ${JSON.stringify(line)}; echo end`);
  const env = { PATH: process.env['PATH'] ?? '', HOME: FOLDER, LC_ALL: 'C.UTF-8' };
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
    const expected: readonly (readonly [line: string, offered: readonly string[]])[] = [
      ['narswarm fe', ['fetch']],
      ['narswarm fetch --publ', ['--publisher', '--publisher-timeout']],
      ['narswarm key --publ', []],
      ['narswarm fetch --scope ', ['cohort', 'lan', 'off', 'public']],
      ['narswarm fetch --scope=c', ['--scope=cohort']],
      ['narswarm key --file some', ['somedir/', 'somefile']],
      ['narswarm fetch --store some', ['somedir/']],
      ['narswarm fetch --seed-for ', []],
      ['narswarm add some', ['somedir/', 'somefile']],
      ['narswarm completion ', ['bash', 'fish', 'zsh']],
      ['narswarm dht some', []],
    ];
    const offered = complete(
      'narswarm.fish',
      expected.map(([line]) => line),
    );
    for (const [index, [line, wanted]] of expected.entries()) assert.deepEqual(names(offered[index]), wanted, line);
  });

  test('shows descriptions as they are, and expands nothing', () => {
    const [command, option, inner, values, operands, hidden] = complete('odd.fish', [
      'odd conf',
      'odd run --no',
      'odd config s',
      'odd run --mode ',
      'odd config set ',
      'odd se',
    ]);
    assert.equal(command?.get('config'), ODD);
    assert.equal(option?.get('--no-thing'), ODD);
    assert.deepEqual(names(inner), ['set', 'show']);
    assert.deepEqual(new Set(names(values)), new Set(ODD_CHOICES));
    assert.deepEqual(new Set(names(operands)), new Set(ODD_CHOICES));
    assert.deepEqual(names(hidden), []);
  });
});
