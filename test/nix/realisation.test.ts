/** The derivations and realisations were made by the real Nix (fixtures/nix/realisations/make.sh). */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { DerivationHasher } from '../../src/nix/derivations/derivation-hash.ts';
import { parseDerivation } from '../../src/nix/derivations/derivation.ts';
import {
  buildTraceFile,
  isTrustedRealisation,
  parseRealisation,
  realisationFile,
  type Realisation,
} from '../../src/nix/realisation.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { readFixture } from './fixtures.ts';

const FOLDER = new URL('../../fixtures/nix/realisations/', import.meta.url);
const KEY = parsePublicKey(readFixture('fixture-1.public'));
const FILES = readdirSync(new URL('realisations/', FOLDER)).map((name) => `realisations/${name}`);
const DRVS = readdirSync(FOLDER).filter((name) => name.endsWith('.drv'));

function read(file: string): Realisation {
  const realisation = parseRealisation(file, readFixture(`realisations/${file}`));
  assert(realisation !== undefined, file);
  return realisation;
}

test('the hash of a derivation names the realisations of its outputs, as in Nix', async () => {
  const hasher = new DerivationHasher(async (path) => parseDerivation(readFixture(`realisations/${baseNameOf(path)}`)));
  const outputs = { plain: ['out'], dep: ['dev', 'out'], app: ['out'] };
  const expected: string[] = [];
  for (const [name, names] of Object.entries(outputs)) {
    const file = DRVS.filter((drv) => drv.endsWith(`-${name}.drv`));
    for (const drv of file) {
      const hash = await hasher.outputHash(parseDerivation(readFixture(`realisations/${drv}`)));
      expected.push(...names.map((output) => realisationFile(hash, output)));
    }
  }
  assert.deepEqual(FILES.toSorted(), expected.toSorted());
});

test('reads a realisation and its dependencies', () => {
  const app = FILES.map(read).find(({ outPath }) => outPath.endsWith('-app'));
  const needed = [...(app?.dependents ?? [])].map(([file, path]) => [read(file).outPath, path]);
  assert.deepEqual(new Set(needed.map(([path]) => path?.slice(33))), new Set(['dep', 'dep-dev']));
  for (const [found, said] of needed) assert.equal(found, said);
});

test('checks the signatures that Nix made, over each field', () => {
  for (const file of FILES) {
    const realisation = read(file);
    assert(isTrustedRealisation(realisation, [KEY]));
    assert(!isTrustedRealisation(realisation, []));
    assert(!isTrustedRealisation({ ...realisation, signatures: [] }, [KEY]));
    const other = realisation.text.replace(
      realisation.outPath,
      realisation.outPath.replace(/^./, (c) => (c === '0' ? '1' : '0')),
    );
    assert(!isTrustedRealisation(parseRealisation(file, other)!, [KEY]));
  }
});

test('reads an entry of a build trace of Nix 2.35', () => {
  const drv = DRVS[0]!;
  const outPath = read(FILES[0]!).outPath;
  const value = { outPath, signatures: [{ keyName: 'a-1', sig: 'AA==' }, 'b-1:BB=='] };
  const file = buildTraceFile(drv, 'out');
  const realisation = parseRealisation(file, JSON.stringify(value));
  assert.deepEqual(realisation?.signatures, ['a-1:AA==', 'b-1:BB==']);
  assert.equal(
    realisation.fingerprint,
    `{"key":{"drvPath":"${drv}","outputName":"out"},"value":{"outPath":"${outPath}"}}`,
  );
  assert.equal(realisation.dependents.size, 0);
});

test('ignores a file of another name or with other contents', () => {
  const [file = '', other = ''] = FILES;
  const { text, outPath } = read(file);
  assert.equal(parseRealisation(other, text), undefined);
  for (const name of [
    '',
    'x.doi',
    `../${file}`,
    file.replace('realisations', 'nar'),
    'build-trace-v2/../out.doi',
    'build-trace-v2/a/b/out.doi',
  ]) {
    assert.equal(parseRealisation(name, text), undefined, name);
    assert.equal(parseRealisation(name, JSON.stringify({ outPath, signatures: [] })), undefined, name);
  }
  for (const bad of [
    '',
    '{',
    '[]',
    'null',
    '7',
    '{}',
    text.replace(outPath, '../x'),
    text.replace(`"${outPath}"`, '7'),
  ]) {
    assert.equal(parseRealisation(file, bad), undefined, bad);
  }
  assert.equal(parseRealisation(file, text.padEnd(300_000)), undefined);
});
