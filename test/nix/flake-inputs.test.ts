import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flakeOf, parseFlakeInputs } from '../../src/nix/flake-inputs.ts';
import { isMadeLocally, parseDerivation } from '../../src/nix/derivations/derivation.ts';
import { parseUltimate } from '../../src/nix/path-info.ts';

const [A, B, C] = ['a', 'b', 'c'].map((letter) => `/nix/store/${letter.repeat(32)}-source`) as [string, string, string];

test('the inputs of a flake are those of all depths, each once, without the flake itself', () => {
  const json = JSON.stringify({
    path: A,
    inputs: { one: { path: B, inputs: { deep: { path: C, inputs: {} } } }, two: { path: C, inputs: {} }, own: null },
  });
  assert.deepEqual(parseFlakeInputs(json), [B, C]);
  for (const text of ['', '{"inputs":{"a":{"path":"/etc"}}}'])
    assert.throws(() => parseFlakeInputs(text), { code: 'NIX_FAILED' });
});

test('the flake of an installable is the text before the #', () => {
  assert.deepEqual(['path:/x#a.b', '.#', '#a'].map(flakeOf), ['path:/x', '.', '.']);
});

test('paths that were built here are found in the output of all versions of Nix', () => {
  const others = { ultimate: false };
  const older = [
    { path: A, ultimate: true },
    { path: B, narSize: 1 },
    { path: C, ...others },
  ];
  const newer = { [A]: { ultimate: true, version: 1 }, [B]: others, [C]: null };
  for (const printed of [older, newer]) assert.deepEqual(parseUltimate(JSON.stringify(printed)), [A]);
});

test('nixpkgs marks what is made locally in two ways, as variables or in JSON', () => {
  const drv = (env: string): boolean =>
    isMadeLocally(parseDerivation(`Derive([("out","","","")],[],[],"x","/bin/sh",[],[${env}])`));
  const json = (value: object): string => `("__json",${JSON.stringify(JSON.stringify(value))})`;
  for (const env of ['("preferLocalBuild","1")', '("allowSubstitutes","")', json({ allowSubstitutes: false })])
    assert.equal(drv(env), true, env);
  for (const env of ['', '("preferLocalBuild","")', '("allowSubstitutes","1")', json({}), '("__json","{")'])
    assert.equal(drv(env), false, env);
});
