import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { PeerRecord } from '../../src/discovery/peer-table.ts';
import type { Edition } from '../../src/exchange/messages.ts';
import { EditionClaims } from '../../src/index/edition-claims.ts';
import type { InfoHash } from '../../src/nix/brands.ts';

const GROUP = 'ab'.repeat(20) as InfoHash;
const OTHER = 'cd'.repeat(20) as InfoHash;
const infoHashOf = (seq: number): InfoHash => String(seq).padStart(40, '0') as InfoHash;

test('claims of newer editions count, the newest first, and each member’s last one; claims that were taken come back', async () => {
  const early: [PeerRecord, Edition][] = [];
  const members = Object.assign(
    new EventEmitter<{ edition: [link: { readonly peer: PeerRecord }, edition: Edition] }>(),
    { editionsOf: () => early },
  );
  const claim = (peer: PeerRecord, seq: number, group = GROUP): void =>
    void members.emit('edition', { peer }, { group, seq, infoHash: infoHashOf(seq) });
  const [first, second, third] = ['a', 'b', 'c'].map((address) => ({ address }) as PeerRecord);
  assert.ok(first && second && third);
  const { signal } = new AbortController();
  {
    using claims = new EditionClaims(members as never, GROUP, 5);
    claim(first, 4);
    claim(first, 5); // the kept one: this confirms nothing, since the publisher may be silent
    claim(first, 9, OTHER);
    const waiting = claims.take(signal);
    claim(second, 6);
    assert.deepEqual(await waiting, { teller: second, seq: 6, infoHash: infoHashOf(6) });
    claim(first, 7);
    claim(second, 6);
    claim(second, 8);
    claim(third, 6);
    assert.equal((await claims.take(signal)).infoHash, infoHashOf(8));
    assert.equal((await claims.take(signal)).infoHash, infoHashOf(7));
    assert.equal((await claims.take(signal)).infoHash, infoHashOf(6));
    assert.equal((await claims.take(signal)).infoHash, infoHashOf(8), 'the one that was taken first comes back');
    const stop = new AbortController();
    const reason = new Error('enough');
    const aborted = assert.rejects(claims.take(stop.signal), reason);
    stop.abort(reason);
    await aborted;
  }
  assert.equal(members.listenerCount('edition'), 0);
  early.push([third, { group: GROUP, seq: 6, infoHash: infoHashOf(6) }]);
  using late = new EditionClaims(members as never, GROUP, 5);
  assert.deepEqual(await late.take(signal), { teller: third, seq: 6, infoHash: infoHashOf(6) }, 'it was told before');
});
