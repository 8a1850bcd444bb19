/** The help of every command fits into a terminal, and its examples can be pasted. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fittedExamples, recallExamples } from '../../src/cli/options/examples.ts';
import { program } from '../../src/cli/program.ts';

/** Returns the words that a shell reads, of each command of a line. */
function wordsOf(line: string): string {
  const script = `narswarm() { printf '<%s>' "$@"; echo; }
for name in nix sudo umount ls unshare jq ssh git; do eval "$name() { narswarm $name \\"\\$@\\"; }"; done
${line}
wait`;
  return execFileSync('/bin/bash', ['-c', script], {
    encoding: 'utf8',
    env: { PATH: '/none' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

test('no line of a help is longer than 80 characters, unless it is one word', async () => {
  const { commands } = await program();
  for (const command of commands) {
    let help = '';
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    assert.match(help, /\n {2}\$ narswarm|\n {2}\$ /, command.name());
    for (const line of help.split('\n'))
      assert.ok(line.length <= 80 || !line.trim().includes(' '), `${command.name()}: ${line}`);
  }
});

test('an example that is broken at 50 columns has the same words for a shell', async () => {
  const { commands } = await program();
  const examples = commands.flatMap(recallExamples).filter((example) => !/[…&;]/.test(example));
  assert.ok(examples.length > 40);
  for (const example of examples) {
    const broken = fittedExamples([example], 50);
    const pasted = broken.replaceAll(/^ {2}(?:\$ |(?=#))/gm, '');
    assert.equal(wordsOf(pasted), wordsOf(example), broken);
  }
});

test('a comment that does not fit stands above its command line', () => {
  assert.equal(
    fittedExamples(['sudo narswarm doctor   # root may read the firewall, and others may not'], 49),
    ['  # root may read the firewall, and others may', '  # not', '  $ sudo narswarm doctor'].join('\n'),
  );
});

test('the list of commands has one line for each', async () => {
  const root = await program();
  const lines = root.helpInformation().split('\n');
  const list = lines.slice(lines.indexOf('Commands:') + 1).filter((line) => line !== '');
  assert.deepEqual(
    list.map((line) => line.trim().split(' ')[0]),
    [...root.commands.map((command) => command.name()), 'help'],
  );
});

test('the options of a command itself come first, and those of many commands are in groups below', async () => {
  const { commands } = await program();
  const headings = (name: string): string[] =>
    [
      ...(commands
        .find((command) => command.name() === name)
        ?.helpInformation()
        .matchAll(/^\S.*:$/gm) ?? []),
    ].map(String);
  const shared = ['Sources and trust:', 'Network:', 'Rate limits:', 'Global Options:'];
  assert.deepEqual(headings('fetch'), ['Arguments:', 'Options:', ...shared]);
  assert.deepEqual(headings('daemon'), ['Options:', ...shared]);
  assert.deepEqual(headings('gc'), ['Options:', 'Global Options:']);
});
