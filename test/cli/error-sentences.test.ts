import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorSentence } from '../../src/cli/error-sentences.ts';
import { NarswarmError } from '../../src/errors.ts';

test('most errors keep their own sentence', () => {
  assert.equal(errorSentence(new Error('it broke')), 'it broke');
  assert.equal(errorSentence(new NarswarmError('NOT_FOUND', 'it is gone')), 'it is gone');
});

test('tells why there is no hash map, and the way out', () => {
  const says = 'nothing in /s can be published';
  assert.equal(
    errorSentence(new NarswarmError('NOT_FOUND', says, { facts: { unpublished: 'empty-store' } })),
    `${says} (it holds no narinfos)`,
  );
  assert.equal(
    errorSentence(new NarswarmError('NARINFO_UNTRUSTED', says, { facts: { path: 'p', unpublished: 'untrusted' } })),
    `${says} (p: not signed by a trusted key): name the key that signed it with --trusted-public-key`,
  );
  const root = new NarswarmError('ROOT_UNKNOWN', 'the root r (p) cannot be published', {
    facts: { path: 'p', unpublished: 'no-nar' },
  });
  assert.equal(errorSentence(root), 'the root r (p) cannot be published: its NAR is not in the store');
});
