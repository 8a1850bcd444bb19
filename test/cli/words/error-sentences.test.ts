import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorSentence } from '../../../src/cli/words/error-sentences.ts';
import { NarswarmError } from '../../../src/errors.ts';

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

test('tells how much a fetch has left out, and why', () => {
  const says = (code: 'NAR_UNAVAILABLE' | 'IMPORT_FAILED', failed: number): string =>
    errorSentence(
      new NarswarmError(code, 'nobody has p', {
        facts: { path: 'p', incomplete: code === 'IMPORT_FAILED' ? 'import' : 'fetch', failed, total: 3 },
      }),
    );
  assert.equal(says('NAR_UNAVAILABLE', 1), '1 of 3 NARs could not be fetched: nobody has p; the others are kept');
  assert.equal(says('NAR_UNAVAILABLE', 3), '3 of 3 NARs could not be fetched: nobody has p (and 2 more)');
  assert.equal(says('IMPORT_FAILED', 1), '1 path could not be imported: nobody has p; the others are imported');
  assert.equal(says('IMPORT_FAILED', 3), '3 paths could not be imported: nobody has p (and 2 more)');
});

test('a misspelt root of a hash map is answered with the nearest one, once', () => {
  const facts = { root: 'desktp', named: ['desktop', 'server'] };
  const unknown = new NarswarmError('ROOT_UNKNOWN', 'no such root', { facts });
  assert.equal(errorSentence(unknown), 'no such root: did you mean desktop?');
  const told = new NarswarmError('ROOT_UNKNOWN', 'no such root: as told', { facts: { ...facts, meant: 'desktop' } });
  assert.equal(errorSentence(told), 'no such root: as told');
  assert.equal(errorSentence(new NarswarmError('ROOT_UNKNOWN', 'no', { facts: { ...facts, root: 'x' } })), 'no');
});
