/** The keys of the config file in the Nix modules: they are the program's own, and others fail the evaluation. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import { parse } from 'smol-toml';
import { KEYS, type Shape } from '../../src/config/keys.ts';
import { configOptions, OPTIONS_FILE } from './config-options.ts';
import { evaluate, evaluationError } from './module-cases.ts';
import { LIBS } from './nix-eval.ts';

const configuration = (text: string): string => `{ services.narswarm = { enable = true; ${text} }; }`;

/** For each shape a value in Nix, the same value in the config file, and one of another shape. */
const VALUES: Readonly<Record<Shape, readonly [nix: string, written: unknown, wrong: string]>> = {
  text: ['"x"', 'x', '[ "x" ]'],
  path: ['"/x"', '/x', '1'],
  number: ['7', 7, '[ 7 ]'],
  list: ['[ "x" "y" ]', ['x', 'y'], '7'],
  flag: ['false', false, '"false"'],
  schedule: ['[ "1MB/s" ]', ['1MB/s'], 'true'],
};

/** Refused by an assertion, or an option that has its own type. */
const OTHERS = new Set(['store', 'scope']);

test('nix/options.json has the keys of the program', () => {
  const message = 'run: node test/nix-packaging/config-options.ts';
  assert.equal(readFileSync(OPTIONS_FILE, 'utf8'), configOptions(), message);
});

for (const [title, lib] of LIBS) {
  suite(`settings of the NixOS module, ${title}`, () => {
    test('every key is an option of its shape', () => {
      const keys = Object.entries(KEYS).filter(([key]) => !OTHERS.has(key));
      const sound = keys.map(([key, { shape }]) => `${key} = ${VALUES[shape][0]};`).join(' ');
      const wrong = keys.map(([key, { shape }]) => [key, configuration(`settings.${key} = ${VALUES[shape][2]};`)]);
      const cases = Object.fromEntries([...wrong, ['sound', configuration(`settings = { ${sound} };`)]]);
      const seen = evaluate(cases as Record<string, string>, lib);
      const expected = Object.fromEntries(keys.map(([key, { shape }]) => [key, VALUES[shape][1]]));
      assert.deepEqual(structuredClone(parse(seen['sound']?.toml ?? '')), expected);
      for (const [key] of keys) assert.equal(seen[key]?.error, true, `${key} takes any value`);
    });

    test('an unknown key fails the evaluation, which names it', () => {
      assert.match(evaluationError(configuration('settings.max-sise = "50G";'), lib), /max-sise/);
      assert.match(evaluationError(configuration('settings.subscriptions.a.soruce = "/x";'), lib), /soruce/);
    });
  });
}
