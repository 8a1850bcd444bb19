import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isOurs } from '../../src/fetch/sharing.ts';
import type { FileHash } from '../../src/nix/brands.ts';

const ids = fc.uniqueArray(fc.stringMatching(/^[0-9a-f]{40}$/), { minLength: 1, maxLength: 8 });

test('of processes that know of each other exactly one fetches a file from an upstream', () => {
  fc.assert(
    fc.property(fc.string(), ids, (file, all) => {
      const takers = all.filter((own) => isOurs(file as FileHash, own, all));
      assert.equal(takers.length, 1);
    }),
  );
});

test('a process that goes leaves its share to the others, and theirs to them', () => {
  fc.assert(
    fc.property(fc.string(), ids, (file, all) => {
      const taker = all.find((own) => isOurs(file as FileHash, own, all));
      const [gone, ...rest] = all;
      if (gone === taker || rest.length === 0) return;
      assert.equal(
        rest.find((own) => isOurs(file as FileHash, own, rest)),
        taker,
      );
    }),
  );
});
