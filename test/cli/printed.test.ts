/** `completion` and `man` print the generated text, and it can be piped. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Lab } from '../support/lab.ts';

describe('output for other programs', { concurrency: 2 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  for (const [shell, start] of [
    ['bash', /^# bash completion of narswarm/],
    ['zsh', /^#compdef narswarm\n/],
    ['fish', /^# fish completion of narswarm/],
  ] as const) {
    test(`completion ${shell} prints a script`, async () => {
      const plain = await lab.runPlain(['completion', shell]);
      assert.deepEqual([plain.status, plain.stderr], [0, '']);
      assert.match(plain.stdout, start);
      for (const name of ['publish', 'completion', '--dry-run', 'cohort'])
        assert.ok(plain.stdout.includes(name.replace(/^--/, '')), name);
      assert.equal((await lab.run(['completion', shell])).event('completion')['script'], plain.stdout);
    });
  }

  test('completion refuses an unknown shell', async () => {
    const run = await lab.run(['completion', 'tcsh']);
    assert.equal(run.status, 2);
    assert.match(run.stderr, /'tcsh' is invalid for argument 'shell'.*Allowed choices are bash, zsh, fish/);
  });

  test('man prints the manual page', async () => {
    const plain = await lab.runPlain(['man']);
    assert.deepEqual([plain.status, plain.stderr], [0, '']);
    assert.match(plain.stdout, /^\.TH "NARSWARM" 1 /);
    assert.ok(!plain.stdout.includes(lab.dir), 'the home of whoever makes the page is not in it');
    assert.equal((await lab.run(['man'])).event('man')['page'], plain.stdout);
  });
});
