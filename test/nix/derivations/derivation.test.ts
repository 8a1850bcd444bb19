/** The .drv files were made by real Nix (fixtures/nix/derivations/make.sh). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type Derivation, isFixedOutput, parseDerivation } from '../../../src/nix/derivations/derivation.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { throwsOnlyOwnErrors } from '../../index/fixtures.ts';
import { failsWith, readFixture } from '../fixtures.ts';

const TOP = readFixture('derivations/top.drv');
const invalid = (reason: RegExp) => failsWith('DERIVATION_INVALID', reason);

/** As Nix writes it (Derivation::unparse). */
function format({ outputs, inputDrvs, inputSrcs, system, builder, args, env }: Derivation): string {
  const escapes: Readonly<Record<string, string>> = { '\n': 'n', '\r': 'r', '\t': 't', '"': '"', '\\': '\\' };
  const string = (text: string) => `"${text.replace(/[\n\r\t"\\]/g, (character) => `\\${escapes[character]}`)}"`;
  const list = (items: Iterable<string>) => `[${[...items].join(',')}]`;
  const tuples = <Key extends string, Value>(map: ReadonlyMap<Key, Value>, write: (value: Value) => string) =>
    list(Array.from(map, ([key, value]) => `(${string(key)},${write(value)})`));
  return `Derive(${[
    tuples(outputs, ({ path = '', hashAlgo, hash }) => [path, hashAlgo, hash].map(string).join(',')),
    tuples(inputDrvs, (names) => list(names.map(string))),
    list(inputSrcs.map(string)),
    string(system),
    string(builder),
    list(args.map(string)),
    tuples(env, string),
  ].join(',')})`;
}

test('reads every field of a file that Nix wrote', () => {
  assert.deepEqual(parseDerivation(TOP), {
    outputs: new Map([
      ['dev', { path: '/nix/store/0bnxknqcm9wjqmbfavgh7yir6vpczm1m-top-dev', hashAlgo: '', hash: '' }],
      ['out', { path: '/nix/store/vjfm0s2lr48cjz6b9xsimqmn62gzyypr-top', hashAlgo: '', hash: '' }],
    ]),
    inputDrvs: new Map([['/nix/store/hhqzcsyxf2m5c2n0g8mym1sfnvwaw9nc-source-flat.drv', ['out']]]),
    inputSrcs: ['/nix/store/si9qjiyx4s0yblv8q97dkjbyjcr798xx-note.txt'],
    system: 'x86_64-linux',
    builder: '/bin/sh',
    args: [],
    env: new Map([
      ['builder', '/bin/sh'],
      ['dev', '/nix/store/0bnxknqcm9wjqmbfavgh7yir6vpczm1m-top-dev'],
      ['empty', ''],
      ['name', 'top'],
      ['note', '/nix/store/si9qjiyx4s0yblv8q97dkjbyjcr798xx-note.txt'],
      ['odd', 'tab\tline\nreturn\rquote"backslash\\dollar$ \\n ümlaut 🐢'],
      ['out', '/nix/store/vjfm0s2lr48cjz6b9xsimqmn62gzyypr-top'],
      ['outputs', 'out dev'],
      ['src', '/nix/store/9bysr4rw5ff1pan0lwnm6wgnax1azs2n-source-flat'],
      ['system', 'x86_64-linux'],
    ]),
  });
});

test('tells fixed outputs from outputs without a path yet', () => {
  const expected = { flat: true, recursive: true, floating: false, top: false };
  for (const [name, isFixed] of Object.entries(expected)) {
    assert.equal(isFixedOutput(parseDerivation(readFixture(`derivations/${name}.drv`))), isFixed, name);
  }
  const floating = parseDerivation(readFixture('derivations/floating.drv'));
  assert.deepEqual(floating.outputs.get('out'), { path: undefined, hashAlgo: 'r:sha256', hash: '' });
  const impure = readFixture('derivations/floating.drv').replace('"r:sha256",""', '"r:sha256","impure"');
  assert.equal(isFixedOutput(parseDerivation(impure)), false);
  const two = readFixture('derivations/flat.drv').replace('("out",', '("dev","","",""),("out",');
  assert.equal(isFixedOutput(parseDerivation(two)), false);
});

test('the formatter of this test writes the same text as Nix', () => {
  for (const name of ['flat', 'recursive', 'floating', 'top']) {
    const text = readFixture(`derivations/${name}.drv`);
    assert.equal(format(parseDerivation(text)), text);
  }
});

test('refuses a text that Nix would not write, and names the offset', () => {
  for (const [text, reason] of [
    ['', /expected Derive\( \(at character 0\)/],
    ['DrvWithVersion("xp-dyn-drv",[])', /dynamic derivation/],
    [`${TOP}\n`, /expected the end of the text/],
    [TOP.slice(0, -1), /expected \)/],
    [TOP.slice(0, 40), /ends within a string/],
    ['Derive([("out","', /ends within a string/],
    ['Derive([("out","\\', /ends within a string/],
    ['Derive([("out","\\"', /ends within a string/],
    ['Derive([],[],[],"s","b",[],[])', /it has no output/],
    [TOP.replace('("dev",', '("out",'), /"out" is repeated/],
    [TOP.replace('("empty",', '("name",'), /"name" is repeated/],
    [TOP.replace('"/nix/store/si9', '"nix/store/si9'), /is not a store path/],
    [TOP.replace('"/nix/store/0bn', '"/nix/store/0bn/'), /is not a store path/],
    [TOP.replace('("dev",', '("d/v",'), /"d\/v" is not the name of an output/],
    [TOP.replace('],[', '] ,['), /expected ,/],
  ] as const) {
    assert.throws(() => parseDerivation(text), invalid(reason), text.slice(0, 60));
  }
});

const anyPath = fc
  .tuple(fc.stringMatching(/^[0-9a-df-np-sv-z]{32}$/), fc.stringMatching(/^[a-zA-Z0-9+_?=][a-zA-Z0-9+._?=-]{0,8}$/))
  .map(([hash, name]) => parseStorePath(`/nix/store/${hash}-${name}`));
const anyText = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^["\\\n\r\tnrt,)\]]{0,8}$/));
const anyName = fc.stringMatching(/^[a-zA-Z0-9+._?=-]{1,9}$/);
const anyMap = <Key, Value>(key: fc.Arbitrary<Key>, value: fc.Arbitrary<Value>, minLength = 0) =>
  fc.array(fc.tuple(key, value), { minLength, maxLength: 4 }).map((entries) => new Map(entries));
const anyDerivation: fc.Arbitrary<Derivation> = fc.record(
  {
    outputs: anyMap(
      anyName,
      fc.record(
        { path: fc.option(anyPath, { nil: undefined }), hashAlgo: anyText, hash: anyText },
        { noNullPrototype: true },
      ),
      1,
    ),
    inputDrvs: anyMap(anyPath, fc.array(anyName, { maxLength: 3 })),
    inputSrcs: fc.array(anyPath, { maxLength: 3 }),
    system: anyText,
    builder: anyText,
    args: fc.array(anyText, { maxLength: 4 }),
    env: anyMap(anyText, anyText),
  },
  { noNullPrototype: true },
);

test('parse reads back the output of the formatter', () => {
  fc.assert(
    fc.property(anyDerivation, (derivation) => {
      assert.deepEqual(parseDerivation(format(derivation)), derivation);
    }),
  );
});

test('refuses garbage, also inside a valid file, with DERIVATION_INVALID', () => {
  const cut = fc.tuple(fc.nat(TOP.length), fc.nat(4), fc.string({ maxLength: 4 }));
  const damaged = cut.map(([at, count, text]) => TOP.slice(0, at) + text + TOP.slice(at + count));
  fc.assert(fc.property(fc.oneof(fc.string(), damaged), (text) => throwsOnlyOwnErrors(() => parseDerivation(text))));
});
