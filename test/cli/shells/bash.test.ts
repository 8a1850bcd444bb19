/** The real bash runs the script, with the words that a person has typed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { suite, test } from 'node:test';
import { bashCompletion } from '../../../src/cli/shells/bash.ts';
import { describeCommand } from '../../../src/cli/shells/model.ts';
import { program } from '../../../src/cli/program.ts';
import { pathWithSubscriptions, shellFolder } from './lines.ts';
import { ODD_CHOICES, oddProgram } from './odd-program.ts';

const PROGRAM = await program();
const PATH = pathWithSubscriptions();
const FOLDER = shellFolder('bash', ' ');

const scripts = {
  narswarm: bashCompletion(describeCommand(PROGRAM), 'narswarm'),
  odd: bashCompletion(oddProgram(), 'odd'),
};

/** Returns bash's completions of these words; the last one is being typed. */
function complete(...words: [keyof typeof scripts, ...string[]]): string[] {
  const [name] = words;
  const run = `${scripts[name]}\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _${name}; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync('bash', ['--norc', '-uc', run, 'bash', ...words], {
    cwd: FOLDER,
    env: { ...process.env, PATH },
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout.split('\n').filter((line) => line !== '');
}

const byName = (a: string, b: string): number => a.localeCompare(b);

suite('bash', () => {
  test('completes the names of commands', () => {
    assert.deepEqual(complete('narswarm', 'fe'), ['fetch']);
    assert.deepEqual(
      complete('narswarm', ''),
      PROGRAM.commands.map((command) => command.name()),
    );
    assert.deepEqual(complete('odd', 'config', 's'), ['set', 'show']);
    assert.deepEqual(complete('odd', 'se'), [], 'what is hidden stays hidden');
  });

  test('completes options, each after its command', () => {
    assert.deepEqual(complete('narswarm', 'fetch', '--publ'), ['--publisher', '--publisher-timeout']);
    assert.deepEqual(complete('narswarm', 'key', '--publ'), []);
    assert.deepEqual(complete('narswarm', '--v'), ['--version']);
    for (const command of PROGRAM.commands) {
      const offered = new Set(complete('narswarm', command.name(), '-'));
      for (const { long } of command.options) assert.ok(offered.has(long ?? ''), `${command.name()} ${long}`);
    }
    assert.deepEqual(complete('odd', 'config', 'show', '-'), ['-o', '--odd', '-h', '--help']);
  });

  test('completes choices, files and folders, and no free text', () => {
    assert.deepEqual(complete('narswarm', 'fetch', '--scope', ''), ['off', 'lan', 'cohort', 'public']);
    assert.deepEqual(complete('narswarm', 'fetch', 'x', '--scope', '=', 'c'), ['cohort']);
    assert.deepEqual(complete('narswarm', 'fetch', 'x', '--scope', '='), ['off', 'lan', 'cohort', 'public']);
    assert.deepEqual(complete('narswarm', 'key', '--file', 'some').toSorted(byName), ['some dir', 'some file']);
    assert.deepEqual(complete('narswarm', 'fetch', '--store', ''), ['some dir']);
    assert.deepEqual(complete('narswarm', 'fetch', '--seed-for', ''), []);
    assert.deepEqual(complete('narswarm', 'add', 'x', 'so').toSorted(byName), ['some dir', 'some file']);
    assert.deepEqual(complete('narswarm', 'completion', ''), ['bash', 'zsh', 'fish']);
  });

  test('completes names of subscriptions, and nothing if the program fails', () => {
    assert.deepEqual(complete('narswarm', 'update', ''), ['desktop', 'stdenv']);
    assert.deepEqual(complete('narswarm', 'status', 'desktop', 's'), ['stdenv']);
    assert.deepEqual(complete('narswarm', 'unsubscribe', 'd'), ['desktop']);
    assert.deepEqual(complete('narswarm', 'subscribe', ''), []);
    const silent = `narswarm() { return 2; }\n${scripts.narswarm}\nCOMP_WORDS=(narswarm update '') COMP_CWORD=2; _narswarm; echo "\${#COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-uc', silent], { encoding: 'utf8' });
    assert.deepEqual([stdout, stderr], ['0\n', '']);
  });

  test('expands none of its suggestions', () => {
    assert.deepEqual(complete('odd', 'run', '--mode', ''), ODD_CHOICES);
    assert.deepEqual(complete('odd', 'run', '-m', '$'), ['$HOME']);
    assert.deepEqual(complete('odd', 'config', 'set', ''), ODD_CHOICES);
  });

  test('registers itself when it is sourced', () => {
    const run = `${scripts.narswarm}\ncomplete -p narswarm`;
    assert.equal(spawnSync('bash', ['-uc', run], { encoding: 'utf8' }).stdout, 'complete -F _narswarm narswarm\n');
  });
});
