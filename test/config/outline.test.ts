import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import { lineOf, outline } from '../../src/config/outline.ts';

suite('lines of keys in a TOML text', () => {
  const lineIn = (text: string, ...path: (string | number)[]): number => {
    parse(text);
    return lineOf(outline(text), path);
  };

  test('ignores look-alikes of keys in comments and strings', () => {
    const text = [
      '# port = 1',
      'salt = "port = 2" # port = 3',
      "listen = '''",
      'port = 4',
      "[port]''''",
      'key = """',
      String.raw`port = 5 \"""`,
      'from = []"""""',
      'port = 9',
    ].join('\n');
    assert.equal(lineIn(text, 'port'), 9);
    assert.equal(lineIn(text, 'key'), 6);
    assert.equal(lineIn(text, 'from'), 1, 'a missing key is nowhere');
  });

  test('finds tables, dotted keys, quoted keys and keys after spaces', () => {
    const text = [
      '\ufeffport = 1',
      'subscriptions.a.source = "x"',
      '[ subscriptions . "b.c" ]',
      "'source' = 'y'",
      String.raw`"\u0066ile" = 1`,
      '[subscriptions.d] # port = 3',
      '',
      'port = 2',
    ].join('\r\n');
    assert.equal(lineIn(text, 'port'), 1);
    assert.equal(lineIn(text, 'subscriptions'), 2);
    assert.equal(lineIn(text, 'subscriptions', 'a', 'source'), 2);
    assert.equal(lineIn(text, 'subscriptions', 'b.c'), 3);
    assert.equal(lineIn(text, 'subscriptions', 'b.c', 'source'), 4);
    assert.equal(lineIn(text, 'subscriptions', 'b.c', 'file'), 5);
    assert.equal(lineIn(text, 'subscriptions', 'd', 'port'), 8);
    assert.equal(
      lineIn(text, 'subscriptions', 'd', 'nothing'),
      6,
      'a key missing from a table is reported at the table',
    );
  });

  test('finds elements of lists over several lines, inline tables, and tables in lists', () => {
    const text = [
      'from = [ # the first',
      '  "]", # ] ',
      '  [ "nested", 1979-05-27 07:32:00 ],',
      '  { port = 1, a.b = [',
      '    2, { port = 3 } ] },',
      ']',
      'subscriptions = { x = { source = "s" }, y = { source = "}" } }',
      'port = 07:32:00',
      'hint = [1979-05-27 07:32:00,',
      ' "x"]',
      '[[peer]]',
      'host = 1',
      '[[peer]]',
      'host = 2',
    ].join('\n');
    assert.equal(lineIn(text, 'from', 0), 2);
    assert.equal(lineIn(text, 'from', 1, 1), 3);
    assert.equal(lineIn(text, 'from', 2, 'port'), 4);
    assert.equal(lineIn(text, 'from', 2, 'a', 'b', 0), 5);
    assert.equal(lineIn(text, 'from', 2, 'a', 'b', 1, 'port'), 5);
    assert.equal(lineIn(text, 'subscriptions', 'y', 'source'), 7);
    assert.equal(lineIn(text, 'port'), 8);
    assert.equal(lineIn(text, 'hint', 1), 10);
    assert.equal(lineIn(text, 'peer', 1, 'host'), 14);
  });

  test('finds every key of any document', () => {
    const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string()));
    const table = fc.dictionary(fc.string({ minLength: 1 }), value, { noNullPrototype: true });
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), table), (document) => {
        const text = stringify(document);
        const found = new Set(outline(text).places.map(({ path }) => JSON.stringify(path)));
        for (const [name, entries] of Object.entries(parse(text)))
          for (const key of Object.keys(entries)) assert.ok(found.has(JSON.stringify([name, key])), text);
      }),
    );
  });
});
