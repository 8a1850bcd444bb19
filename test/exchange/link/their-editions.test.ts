/** The editions of hash maps that a member says it holds. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { TheirEditions } from '../../../src/exchange/link/their-editions.ts';
import type { Edition } from '../../../src/exchange/messages/messages.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';

function editionOf(group: number, seq = 1): Edition {
  const hash = group.toString(16).padStart(40, '0') as InfoHash;
  return { group: hash, seq, infoHash: hash };
}

suite('TheirEditions', () => {
  test('the latest edition of a group counts', () => {
    const editions = new TheirEditions();
    editions.note(editionOf(1, 7));
    editions.note(editionOf(1, 5));
    assert.equal(editions.get(editionOf(1).group)?.seq, 5);
    assert.equal(editions.get(editionOf(2).group), undefined);
  });

  test('of too many groups, the ones that were heard of least recently are forgotten', () => {
    const editions = new TheirEditions();
    for (let group = 0; group < 64; group++) editions.note(editionOf(group));
    editions.note(editionOf(0, 2));
    for (let group = 64; group < 1_000; group++) {
      editions.note(editionOf(group));
      if (group === 64) assert.equal(editions.get(editionOf(0).group)?.seq, 2);
    }
    const kept = Array.from({ length: 1_000 }, (_, group) => editions.get(editionOf(group).group)).filter(Boolean);
    assert.equal(kept.length, 64);
    assert.equal(kept.at(-1)?.group, editionOf(999).group);
  });
});
