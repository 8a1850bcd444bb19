import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { cohortInfoHash } from '../../src/index/cohort-key.ts';
import { failsWith } from '../nix/fixtures.ts';
import { KEY, OTHER_KEY } from './fixtures.ts';

/** A change here splits the followers of a hash map into two swarms that never meet. */
const GOLDEN = [
  ['', '58c3b8f37c9dc86ce83f9463330d0861f5b6406a'],
  ['desktop', '6aff0d4d44272440db4c0300148e790eade2421a'],
  ['käfer', '33f2a0307458ce3097f9712a56d58c2252f46327'],
] as const;

test('the infohash of a cohort never changes', () => {
  for (const [salt, infoHash] of GOLDEN) assert.equal(cohortInfoHash(KEY.publicKey, salt), infoHash);
});

test('it is the SHA-1 of a purpose, the key and the salt', () => {
  const sha1 = createHash('sha1').update('narswarm cohort 1\n').update(KEY.publicKey).update('desktop');
  assert.equal(cohortInfoHash(KEY.publicKey, 'desktop'), sha1.digest('hex'));
});

test('another key or another salt is another cohort', () => {
  assert.notEqual(cohortInfoHash(OTHER_KEY.publicKey, 'desktop'), cohortInfoHash(KEY.publicKey, 'desktop'));
  assert.notEqual(cohortInfoHash(KEY.publicKey, 'laptop'), cohortInfoHash(KEY.publicKey, 'desktop'));
});

test('refuses a salt that BEP 44 does not allow', () => {
  assert.throws(() => cohortInfoHash(KEY.publicKey, 'x'.repeat(65)), failsWith('ADDRESS_INVALID'));
});
