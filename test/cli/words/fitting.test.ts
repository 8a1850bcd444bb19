import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fitted, fittedCommand } from '../../../src/cli/words/fitting.ts';

test('a long line is broken at spaces, and its further lines begin below its text', () => {
  const line = '  last run  3 h ago, 02:14; 12.3 s: 50 NARs, 45.7 MB from peers, 1.2 MB from caches';
  assert.equal(
    fitted(line, 60, () => 12),
    ['  last run  3 h ago, 02:14; 12.3 s: 50 NARs, 45.7 MB from', '            peers, 1.2 MB from caches'].join('\n'),
  );
  assert.equal(
    fitted(line, undefined, () => 12),
    line,
    'without a terminal nothing is broken',
  );
});

test('no word is lost or broken, and a line is too long only if a single word is', () => {
  const word = fc.stringMatching(/^[a-z/]{1,30}$/);
  fc.assert(
    fc.property(fc.array(word, { minLength: 1 }), fc.integer({ min: 20, max: 100 }), (words, columns) => {
      const lines = fitted(`  label     ${words.join(' ')}`, columns, () => 12).split('\n');
      assert.deepEqual(lines.join(' ').trim().split(/ +/).slice(1), words);
      for (const line of lines.slice(1))
        assert.ok(line.length <= columns || !line.trim().includes(' '), JSON.stringify(line));
    }),
  );
});

test('a command line is broken so that a shell reads the same words', () => {
  const line = `printf '%s|' --from https://cache.example.org "two  words" 'a   b' $(echo one) two\\ more x`;
  const broken = fittedCommand(line, 40, 4);
  assert.ok(broken.split('\n').length > 2, broken);
  for (const part of broken.split('\n')) assert.ok(part.length <= 40, part);
  const said = (text: string): string => execFileSync('sh', ['-c', text], { encoding: 'utf8' });
  assert.equal(said(broken), said(line));
});
