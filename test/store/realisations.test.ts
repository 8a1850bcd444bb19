/** The real Nix made the realisations (fixtures/nix/realisations/make.sh). */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { collectRecords } from '../../src/publish/collect-records.ts';
import { realisationsOf } from '../../src/index/record.ts';
import { parseRealisation, signRealisation, type Realisation } from '../../src/nix/realisation.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { collectGarbage } from '../../src/store/gc.ts';
import { readRealisation, readRealisations, writeRealisations } from '../../src/store/realisations.ts';
import { LEAF } from '../nix/fixtures.ts';
import { readdirSync, readFileSync } from 'node:fs';
import { filledStore, infoOf, KEY } from './store-fixture.ts';
import { replaceFile } from '../../src/disk/replace.ts';

const FOLDER = new URL('../../fixtures/nix/realisations/', import.meta.url);
const REALISATIONS = readdirSync(new URL('realisations/', FOLDER)).map((name): Realisation => {
  const file = `realisations/${name}`;
  const realisation = parseRealisation(file, readFileSync(new URL(file, FOLDER), 'utf8'));
  assert(realisation !== undefined);
  return realisation;
});

test('keeps realisations where Nix looks for them, and removes them with their paths', async (t) => {
  const store = await filledStore(t);
  const leaf = baseNameOf((await infoOf(store, LEAF)).storePath);
  const file = `build-trace-v2/${'0'.repeat(32)}-leaf.drv/out.doi`;
  const ofLeaf = parseRealisation(file, JSON.stringify({ outPath: leaf, signatures: [] }));
  assert(ofLeaf !== undefined);
  await writeRealisations([...REALISATIONS, ofLeaf], store);
  assert.deepEqual([...(await readRealisations(store)).keys()], [leaf], 'none of a path that is not here');
  for (const { file: stray, text } of REALISATIONS) await replaceFile(join(store.dir, stray), text);
  for (const realisation of [...REALISATIONS, ofLeaf]) {
    assert.deepEqual(await readRealisation(realisation.file, store), realisation);
  }
  const found = [...(await readRealisations(store)).values()].flat();
  assert.equal(found.length, REALISATIONS.length + 1);

  const options = { roots: async () => [], maxBytes: undefined, now: new Date(), onWarning: () => undefined };
  const { signal } = new AbortController();
  await collectGarbage({ ...options, store, dryRun: true, signal });
  assert.equal((await readdir(join(store.dir, 'realisations'))).length, REALISATIONS.length);
  await collectGarbage({ ...options, store, dryRun: false, signal });
  assert.deepEqual([...(await readRealisations(store)).keys()], [leaf]);
});

test('a hash map has the realisations that a trusted key has signed', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const ofLeaf = (name: string): Realisation => {
    const file = `build-trace-v2/${'0'.repeat(32)}-${name}.drv/out.doi`;
    const text = JSON.stringify({ outPath: baseNameOf(info.storePath), signatures: [] });
    const realisation = parseRealisation(file, text);
    assert(realisation !== undefined);
    return realisation;
  };
  const signed = signRealisation(ofLeaf('signed'), { name: 'k', key: privateKey });
  await writeRealisations([ofLeaf('unsigned'), signed], store);
  const keys = [KEY, { name: 'k', key: publicKey }];
  const { records } = await collectRecords([info], { store, catalogue: await Catalogue.open(store), keys });
  assert.deepEqual(
    records.flatMap((record) => realisationsOf(record).map(({ file }) => file)),
    [signed.file],
  );
});
