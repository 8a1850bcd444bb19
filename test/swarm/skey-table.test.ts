import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { mock, test } from 'node:test';
import type { InfoHash } from '../../src/nix/brands.ts';
import { SkeyTable } from '../../src/swarm/skey-table.ts';

const hashedOf = (infoHash: InfoHash): string =>
  hash('sha1', Buffer.concat([Buffer.from('req2'), Buffer.from(infoHash, 'hex')]));

test('finds an infohash by its hash as long as it is in the list, and forgets it afterwards', (t) => {
  let nowMs = 0;
  t.mock.method(performance, 'now', () => nowMs);
  const [first, second] = ['ab'.repeat(20) as InfoHash, 'cd'.repeat(20) as InfoHash];
  let listed = [first];
  const list = mock.fn(() => listed);
  const table = new SkeyTable(list);
  assert.equal(table.find(hashedOf(first)), first);
  listed = [second];
  assert.equal(table.find(hashedOf(second)), undefined, 'the list is read once a second');
  nowMs = 1_000;
  assert.equal(table.find(hashedOf(second)), second);
  assert.equal(table.find(hashedOf(first)), undefined);
  assert.equal(list.mock.callCount(), 2);
});
