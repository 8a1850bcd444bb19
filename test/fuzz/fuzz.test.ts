import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fuzz } from './campaign.ts';
import { TARGETS } from './targets/index.ts';

/** Inputs for each target. `npm run fuzz` gives ten times as many, with another seed each time. */
const COUNT = 100_000;

suite('fuzzing', { concurrency: 2 }, () => {
  for (const name of Object.keys(TARGETS)) {
    test(`${name}: nothing from a stranger does harm`, async () => {
      assert.equal(await fuzz(name, { count: COUNT, seed: 1 }), undefined);
    });
  }
});
