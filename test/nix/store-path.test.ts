import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  baseNameOf,
  DEFAULT_STORE_DIR,
  parseBaseName,
  parseStoreDir,
  parseStoreHash,
  parseStorePath,
  storeDirOf,
  storeHashOf,
  storePathFromBaseName,
} from '../../src/nix/store-path.ts';
import { failsWith, TOP } from './fixtures.ts';

const invalid = failsWith('STORE_PATH_INVALID');

test('takes a store path apart and puts it together', () => {
  const path = parseStorePath(`/nix/store/${TOP}-top+1.0_x=?`);
  assert.equal(storeDirOf(path), DEFAULT_STORE_DIR);
  assert.equal(storeHashOf(path), TOP);
  assert.equal(baseNameOf(path), `${TOP}-top+1.0_x=?`);
  assert.equal(storePathFromBaseName(baseNameOf(path)), path);
});

test('accepts any absolute store directory', () => {
  for (const storeDir of ['/s', '/home/me/my store', '/tmp/.x/..y']) {
    const path = parseStorePath(`${storeDir}/${TOP}-x`);
    assert.equal(storeDirOf(path), storeDir);
    assert.equal(storePathFromBaseName(baseNameOf(path), storeDir), path);
  }
});

test('accepts the names that Nix accepts', () => {
  for (const name of ['a', '.a', '..a', '...', '.a-b', 'x'.repeat(211), '-', '1+2.3_4?=5']) {
    assert.equal(parseBaseName(`${TOP}-${name}`), `${TOP}-${name}`);
  }
});

test('refuses the names that Nix refuses', () => {
  for (const name of ['', '.', '..', '.-a', '..-a', 'x'.repeat(212), 'a b', 'a/b', 'a,b', 'é', 'a\0', 'a\n', 'a:b']) {
    assert.throws(() => parseBaseName(`${TOP}-${name}`), invalid, JSON.stringify(name));
  }
});

test('refuses malformed hash parts', () => {
  for (const hash of [TOP.slice(1), `${TOP}0`, `e${TOP.slice(1)}`, TOP.toUpperCase(), `${TOP}\n`, '']) {
    assert.throws(() => parseStoreHash(hash), invalid);
    assert.throws(() => parseBaseName(`${hash}-x`), invalid);
  }
  assert.throws(() => parseBaseName(`${TOP}.x`), invalid);
  assert.equal(parseStoreHash(TOP), TOP);
});

test('refuses directories that are not absolute and normalised', () => {
  for (const storeDir of [
    '',
    '/',
    'nix/store',
    '/nix//store',
    '/nix/store/',
    '/nix/../store',
    '/nix/./s',
    '/a\0',
    '/a\n',
  ]) {
    assert.throws(() => parseStoreDir(storeDir), invalid, JSON.stringify(storeDir));
    assert.throws(() => parseStorePath(`${storeDir}/${TOP}-x`), invalid, JSON.stringify(storeDir));
    assert.throws(() => storePathFromBaseName(`${TOP}-x`, storeDir), invalid, JSON.stringify(storeDir));
  }
});

test('refuses a path below a store path instead of cutting it', () => {
  for (const tail of ['/', '/bin', '/bin/x', '\n', ' ']) {
    assert.throws(() => parseStorePath(`/nix/store/${TOP}-x${tail}`), invalid, JSON.stringify(tail));
  }
});

test('names the text and the expected form', () => {
  assert.throws(
    () => parseStorePath('hello'),
    failsWith('STORE_PATH_INVALID', /^"hello" is not a store path: expected \/nix\/store\/<hash>-<name>$/),
  );
});

test('garbage gives STORE_PATH_INVALID and nothing else', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `/nix/store/${TOP}-${text}`),
      ),
      (text) => {
        try {
          assert.equal(parseStorePath(text), text);
        } catch (error) {
          assert.ok(invalid(error), String(error));
        }
      },
    ),
  );
});
