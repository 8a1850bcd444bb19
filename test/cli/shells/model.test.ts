import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Command } from 'commander';
import { describeCommand, flatten, type OptionModel } from '../../../src/cli/shells/model.ts';
import { program } from '../../../src/cli/program.ts';
import { ODD_CHOICES, oddProgram } from './odd-program.ts';

const optionsOf = (command: Command): Map<string, OptionModel> =>
  new Map(describeCommand(command).options.map((option) => [option.long, option]));

test('describes subcommands, and leaves out hidden ones', () => {
  const model = oddProgram();
  assert.deepEqual(
    flatten(model).map(({ path }) => path),
    [[], ['config'], ['config', 'set'], ['config', 'show'], ['run']],
  );
  const show = flatten(model).find(({ path }) => path[1] === 'show');
  assert.deepEqual(
    show?.options.map(({ long }) => long),
    ['--odd', '--help'],
  );
  const set = flatten(model).find(({ path }) => path[1] === 'set');
  assert.deepEqual(
    set?.arguments.map(({ name, required, variadic, values }) => [name, required, variadic, values]),
    [
      ['key', true, false, { kind: 'choices', choices: [...ODD_CHOICES] }],
      ['file', false, true, { kind: 'file' }],
    ],
  );
});

test('chooses completions by the name of a value', () => {
  const command = new Command('x')
    .option('--a <dir>', 'a')
    .option('--b <key-file>', 'b')
    .option('--c <file>', 'c; may be repeated')
    .option('--d [duration]', 'd (e; f); g')
    .option('-s', 's');
  const options = optionsOf(command);
  assert.deepEqual(options.get('--a')?.value, { name: 'dir', required: true, values: { kind: 'dir' } });
  assert.deepEqual(options.get('--b')?.value?.values, { kind: 'file' });
  assert.equal(options.get('--c')?.repeatable, true);
  assert.deepEqual(options.get('--d')?.value, { name: 'duration', required: false, values: { kind: 'plain' } });
  assert.equal(options.get('--d')?.summary, 'd (e; f)');
  assert.deepEqual([options.get('-s')?.short, options.get('-s')?.value], [undefined, undefined]);
});

test('contains no home folder', () => {
  const options = optionsOf(new Command('x').option('--a <file>', 'a', join(homedir(), '.cache', 'a')));
  assert.equal(options.get('--a')?.description, 'a (default: "~/.cache/a")');
});

test('finds the examples and the options of every command of the program', async () => {
  for (const command of describeCommand(await program()).commands) {
    assert.ok(command.examples.length > 0, command.path.join(' '));
    for (const name of ['--json', '--config']) {
      const [first, ...more] = command.options.filter(({ long }) => long === name);
      assert.deepEqual([first?.long, more], [name, []], command.path.join(' '));
    }
    const config = command.options.find(({ long }) => long === '--config');
    assert.deepEqual(config?.value?.values, { kind: 'file' });
  }
});
