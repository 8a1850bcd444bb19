/** The neighbours that want the same file. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { rivalsOf, type Contender } from '../../../src/exchange/download/rivals.ts';
import type { FileHash } from '../../../src/nix/brands.ts';

const FILE = 'a'.repeat(52) as FileHash;

/** A neighbour that wants the file. */
function neighbour(host: string, peerId: string, heldBytes?: number, facts: Partial<Contender> = {}): Contender {
  const claim = heldBytes === undefined ? undefined : { heldBytes, bytesPerSec: 0 };
  return {
    member: { host, peerId },
    isNeighbour: true,
    isSilent: false,
    wants: (file) => file === FILE,
    fetching: (file) => (file === FILE ? claim : undefined),
    ...facts,
  };
}

function idsOf(sources: readonly Contender[]): string[] {
  return rivalsOf(sources, FILE, () => false).map(({ id }) => id);
}

suite('rivalsOf', () => {
  test('members that are neighbours and want the file are rivals', () => {
    const far = neighbour('h1', 'far', 10, { isNeighbour: false });
    const other = neighbour('h2', 'other', undefined, { wants: () => false });
    assert.deepEqual(idsOf([far, other, neighbour('h3', 'near')]), ['near']);
  });

  test('a silent member is a rival only if it claims to fetch the file', () => {
    const silent = { isSilent: true };
    assert.deepEqual(idsOf([neighbour('h1', 'quiet', undefined, silent), neighbour('h2', 'busy', 5, silent)]), [
      'busy',
    ]);
  });

  test('a member that has the whole file and still checks it is a rival', () => {
    assert.deepEqual(idsOf([neighbour('h1', 'checks', 10, { wants: () => false })]), ['checks']);
  });

  test('a host counts once: the process that holds most, otherwise the smallest id', () => {
    for (const order of [(all: Contender[]) => all, (all: Contender[]) => all.toReversed()]) {
      assert.deepEqual(idsOf(order([neighbour('h', 'a'), neighbour('h', 'b')])), ['a']);
      assert.deepEqual(idsOf(order([neighbour('h', 'a'), neighbour('h', 'b', 0)])), ['b']);
      assert.deepEqual(idsOf(order([neighbour('h', 'a', 1), neighbour('h', 'b', 2), neighbour('h', 'c', 2)])), ['b']);
    }
  });
});
