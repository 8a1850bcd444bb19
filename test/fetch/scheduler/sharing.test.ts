import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { asItArrives, believed, fetcherOf, type Claimant } from '../../../src/fetch/scheduler/sharing.ts';
import type { FileHash } from '../../../src/nix/brands.ts';

const SIZE_BYTES = 16_000_000;

const ids = fc.uniqueArray(fc.stringMatching(/^[0-9a-f]{40}$/), { minLength: 1, maxLength: 8 });
const progress = fc.option(fc.integer({ min: 0, max: SIZE_BYTES }), { nil: undefined });

function ours(file: string, own: Claimant, others: readonly Claimant[]): boolean {
  return fetcherOf({ fileHash: file as FileHash, sizeBytes: SIZE_BYTES }, own, others) === undefined;
}

function claimant(id: string, heldBytes: number | undefined): Claimant {
  return { id, claim: heldBytes === undefined ? undefined : { heldBytes } };
}

function idle(id: string): Claimant {
  return claimant(id, undefined);
}

test('exactly one of several processes fetches a file from an upstream', () => {
  fc.assert(
    fc.property(fc.string(), ids, fc.array(progress, { minLength: 8, maxLength: 8 }), (file, all, held) => {
      const claimants = all.map((id, index) => claimant(id, held[index]));
      const takers = claimants.filter((own) => ours(file, own, claimants));
      assert.equal(takers.length, 1);
    }),
  );
});

test('if a process leaves, the others keep their shares and divide its own', () => {
  fc.assert(
    fc.property(fc.string(), ids, (file, all) => {
      const takerOf = (of: readonly string[]): string | undefined =>
        of.find((own) => ours(file, idle(own), of.map(idle)));
      const taker = takerOf(all);
      const [gone, ...rest] = all;
      if (gone === taker || rest.length === 0) return;
      assert.equal(takerOf(rest), taker);
    }),
  );
});

test('the process that already fetches a file continues, or the one of several that holds most', () => {
  const small = claimant('a', 1_000_000);
  const large = claimant('b', 9_000_000);
  for (const own of ['a', 'b', 'c', 'd', 'e']) {
    assert.equal(ours('file', idle(own), [small]), own === 'a');
    assert.equal(ours('file', claimant(own, 10_000_000), [small, large]), true);
  }
  assert.equal(ours('file', small, [large]), false);
  assert.equal(ours('file', large, [small]), true);
});

test('no two processes leave a file to each other, however old their knowledge', () => {
  const held = fc.integer({ min: 0, max: SIZE_BYTES });
  fc.assert(
    fc.property(fc.string(), held, held, held, held, (file, a, olderA, b, olderB) => {
      const [first, second] = ['a', 'b'] as const;
      const isFirst = ours(file, claimant(first, a), [claimant(second, Math.min(b, olderB))]);
      const isSecond = ours(file, claimant(second, b), [claimant(first, Math.min(a, olderA))]);
      assert.ok(isFirst || isSecond);
    }),
  );
});

test('only hosts that have given something are believed once sharing ends, and a false claim hides no other one', () => {
  const liar = { ...claimant('f1', SIZE_BYTES - 1), isBacked: false };
  const honest = { ...claimant('a1', SIZE_BYTES / 2), isBacked: true };
  const chosen = (isSharing: boolean, areClaimsBelieved: boolean): string | undefined =>
    fetcherOf(
      { fileHash: '0' as FileHash, sizeBytes: SIZE_BYTES },
      claimant('00', SIZE_BYTES / 4),
      believed([liar, honest], { isSharing, areClaimsBelieved }),
    )?.id;
  assert.equal(chosen(true, true), 'f1');
  assert.equal(chosen(false, true), 'a1');
  assert.equal(chosen(false, false), undefined);
});

test('of a file that has come in part, a claim tells what has come', () => {
  const claim = { heldBytes: SIZE_BYTES, bytesPerSec: 10_000_000 };
  const here = { heldBytes: 300_000, bytesPerSec: 1_000 };
  assert.deepEqual(asItArrives({ claim }, here), { claim: here });
  assert.deepEqual(asItArrives({ claim }, { heldBytes: 0, bytesPerSec: undefined }), { claim });
  assert.deepEqual(asItArrives({ claim: undefined }, here), { claim: undefined });
});
