import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { Here } from '../../src/ready/here.ts';
import { useNixFolder } from '../support/nix-folder.ts';

const ABSENT = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
let root = '';
useNixFolder((folder) => {
  root = `${folder}/target`;
});

test('no Nix starts before the first question: a second one fails while it creates a new store', async () => {
  const options = { store: `local?root=${root}`, files: undefined, countsStored: false };
  {
    await using unasked = await Here.open(options);
    assert.equal(unasked.storedCount, 0);
  }
  assert.equal(existsSync(root), false);
  await using asked = await Here.open(options);
  await asked.look([ABSENT]);
  assert.equal(asked.isValid(ABSENT), false);
  assert.equal(existsSync(root), true);
});
