/** groff and mandoc read the page, and complain only about its missing date. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { suite, test } from 'node:test';
import { describeCommand, flatten, type CommandModel } from '../../../src/cli/shells/model.ts';
import { manualPage } from '../../../src/cli/manual/page.ts';
import { escape, prose, section } from '../../../src/cli/manual/roff.ts';
import { program } from '../../../src/cli/program.ts';
import { EXIT_STATUSES } from '../../../src/errors.ts';
import { VERSION } from '../../../src/version.ts';
import { ODD, oddProgram } from '../shells/odd-program.ts';

const PROGRAM = await program();
const PAGES = {
  narswarm: manualPage(describeCommand(PROGRAM), 'narswarm', VERSION),
  odd: manualPage(oddProgram(), 'odd', '1'),
};

/** Returns the text that a terminal shows, with single spaces and without emphasis. */
function rendered(page: string): string {
  const groff = ['-ww', '-man', '-Tutf8', '-P-cbuo', '-rLL=2000n'];
  const { stdout, stderr, status } = spawnSync('groff', groff, { input: page, encoding: 'utf8' });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout.replaceAll(/\s+/g, ' ');
}

suite('manual page', () => {
  for (const [name, page] of Object.entries(PAGES)) {
    test(`the page of ${name} is ASCII, and mandoc finds no fault`, () => {
      const { stdout } = spawnSync('mandoc', ['-T', 'lint'], { input: page, encoding: 'utf8' });
      assert.match(stdout, /^mandoc: <stdin>:1:\d+: WARNING: missing date, using "": TH\n$/);
      assert.match(page, /^[\n\x20-\x7e]*$/);
    });
  }

  test('shows every command, option, example and exit status', () => {
    const text = rendered(PAGES.narswarm);
    const shows = (part: string): void => assert.ok(text.includes(part.replaceAll(/\s+/g, ' ')), part);
    const check = ({ path, options, examples, arguments: operands }: CommandModel): void => {
      shows(['narswarm', ...path].join(' '));
      for (const { long, value, description } of options)
        shows(`${long}${value === undefined ? '' : ` ${value.name}`} ${description}`);
      for (const { description } of operands) shows(description);
      for (const example of examples) shows(example);
    };
    for (const command of flatten(describeCommand(PROGRAM))) check(command);
    for (const [status, meaning] of Object.values(EXIT_STATUSES)) shows(` ${status} ${meaning}`);
    for (const part of [
      'SIGNALS',
      'SIGHUP',
      'ENVIRONMENT',
      'FILES',
      'NARSWARM_DEBUG',
      'NO_COLOR',
      'TERM',
      'CI',
      'NARSWARM_*',
      '/etc/narswarm/config.toml',
      'narswarm - prefetches',
    ])
      shows(part);
  });

  test('shows awkward text as it is', () => {
    const text = rendered(PAGES.odd);
    assert.ok(text.includes(`--no-thing ${ODD}`), text);
    assert.ok(text.includes('odd config set [option ...] key [file ...]'), text);
    assert.ok(text.includes(`odd config [option ...] [command ...] It's`), text);
    assert.ok(!text.includes('secret'));
  });

  test('escapes characters that roff would interpret or make typographic', () => {
    assert.equal(escape(`--a "b" 'c' \\fB ~^\``), String.raw`\-\-a \(dqb\(dq \(aqc\(aq \efB \(ti\(ha\(ga`);
    assert.equal(escape('ü…😀'), String.raw`\[u00FC]\[u2026]\[u1F600]`);
    assert.equal(section('a "b"'), String.raw`.SH "a \(dqb\(dq"`);
  });

  test('breaks lines without making roff requests', () => {
    assert.equal(prose('.TH x\n.so /etc/passwd'), String.raw`\&.TH x .so \%/etc/passwd`);
    const words = Array.from({ length: 100 }, (_, index) => (index % 2 === 0 ? '.de' : `'br`));
    for (const line of prose(words.join(' ')).split('\n')) {
      assert.match(line, /^(\\&\.|\\\(aq)/);
      assert.ok(line.length < 80);
    }
  });
});
