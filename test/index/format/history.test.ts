import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { signGolden } from '../built-index.ts';
import { continues, historyAfter, MAX_PREVIOUS } from '../../../src/index/format/history.ts';
import { parseManifest } from '../../../src/index/manifest.ts';
import type { Verified } from '../../../src/index/format/verified-manifest.ts';
import { GOLDEN, KEY, NOW } from '../fixtures.ts';

/** Signs an edition. @param last the edition that it follows, as its publisher knows it */
function sign(seq: number, last?: Verified, peers: readonly string[] = []): Verified {
  const bytes = signGolden({ seq, peers, previous: last && historyAfter(last) });
  return { bytes, manifest: parseManifest(bytes, { publicKey: KEY.publicKey, salt: GOLDEN.salt, now: NOW }) };
}

/** Signs editions that follow one another. @returns the last one */
function signUntil(seq: number, last: Verified): Verified {
  let newest = last;
  while (newest.manifest.seq < seq) newest = sign(newest.manifest.seq + 1, newest);
  return newest;
}

describe('the history of a hash map', () => {
  const first = sign(1);
  const second = sign(2, first);

  test('a manifest names the editions before it, the newest first, and not more than a few', () => {
    assert.equal(first.manifest.previous, undefined);
    assert.deepEqual(
      signUntil(4, second).manifest.previous?.map(({ seq }) => seq),
      [3, 2, 1],
    );
    assert.equal(signUntil(40, second).manifest.previous?.length, MAX_PREVIOUS);
  });

  test('later editions of one history continue each other, also if some were not seen', () => {
    for (const seq of [2, 3, 10, 17, 18, 40]) assert.ok(continues(signUntil(seq, first), first), `${seq}`);
    assert.ok(continues(second, second));
    assert.ok(continues(signUntil(40, second), signUntil(30, second)));
  });

  test('an edition of another history does not', () => {
    const other = sign(2, first, ['other.example.org:1']);
    assert.ok(!continues(other, second), 'two editions have one number');
    assert.ok(!continues(sign(3, other), second), 'another edition of this number came before it');
    assert.ok(!continues(signUntil(9, other), signUntil(5, second)), 'it never had this one');
    assert.ok(!continues(sign(9, first), signUntil(5, second)), 'it left this one out');
  });

  test('a publisher that lost its record is told from one of a version without a history', () => {
    assert.ok(!continues(sign(9), second), 'the one that was seen had a history');
    assert.ok(continues(sign(9), first), 'neither has one');
    const begun = sign(11, sign(10)); // the publisher was updated at edition 10
    assert.ok(continues(begun, first));
    assert.ok(!continues(begun, second));
  });
});
