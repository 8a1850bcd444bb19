import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { printTo } from '../../src/cli/output.ts';
import { program } from '../../src/cli/program.ts';
import { quote } from '../../src/nix/quote.ts';

/** All characters that control a terminal or the order of a line, except tabs and newlines. */
const ACTS = /[^\P{Cc}\t\n]|[\p{Zl}\p{Zp}\p{Bidi_C}]/u;

function printed(text: string): string {
  const stream = new PassThrough();
  printTo(stream, text);
  return String(stream.read() ?? '');
}

test('no control character of a foreign name reaches a terminal', () => {
  assert.equal(printed('a\u009b31mb\u202ec\td\n'), 'a\\u009b31mb\\u202ec\td\n');
  assert.ok(ACTS.test('\u009b') && ACTS.test('\u2066'));
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !ACTS.test(printed(text)) && !ACTS.test(quote(text))));
});

test('prints other text unchanged, and escapes as in JSON', () => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), (text) => ACTS.test(text) || printed(text) === text));
  const text = 'a\u0085\u061c\u2028\u{1f600}';
  assert.equal(JSON.parse(printed(JSON.stringify(text))), text);
});

test('every command prints through the same module', async () => {
  const root = await program();
  const commands = [root, ...root.commands];
  for (const command of commands) {
    const writers = command.configureOutput();
    for (const name of ['writeOut', 'writeErr'] as const)
      assert.equal(writers[name]?.toString(), root.configureOutput()[name]?.toString());
  }
});
