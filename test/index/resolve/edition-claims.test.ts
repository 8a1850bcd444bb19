import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { PeerRecord } from '../../../src/discovery/peer-table.ts';
import type { Edition } from '../../../src/exchange/messages/messages.ts';
import { EditionClaims, type EditionClaim } from '../../../src/index/resolve/edition-claims.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';

const GROUP = 'ab'.repeat(20) as InfoHash;
const OTHER = 'cd'.repeat(20) as InfoHash;
const infoHashOf = (seq: number): InfoHash => String(seq).padStart(40, '0') as InfoHash;

const peerAt = (address: string): PeerRecord => ({ address }) as PeerRecord;

/** Reads claims until the test ends. Each is `host:port seq`. */
function reading(
  claims: EditionClaims,
  read: (claim: EditionClaim) => Promise<boolean>,
): {
  readonly read: readonly string[];
  readonly until: (count: number) => Promise<void>;
  readonly stop: () => Promise<void>;
} {
  const done: string[] = [];
  const news = new EventEmitter<{ read: [] }>();
  const stop = new AbortController();
  const ended = claims.readEach((claim) => {
    done.push(`${claim.teller.address} ${claim.seq}`);
    assert.ok([infoHashOf(claim.seq), OTHER].includes(claim.infoHash));
    news.emit('read');
    return read(claim);
  }, stop.signal);
  ended.catch(() => undefined);
  return {
    read: done,
    until: async (count) => {
      while (done.length < count) await once(news, 'read');
    },
    stop: async () => {
      const reason = new Error('enough');
      stop.abort(reason);
      await assert.rejects(ended, reason);
    },
  };
}

test('claims of newer editions count, the newest first, and each member’s last one; failed ones come back once', async () => {
  const early: [PeerRecord, Edition][] = [];
  const members = Object.assign(
    new EventEmitter<{ edition: [link: { readonly peer: PeerRecord }, edition: Edition] }>(),
    { editionsOf: () => early },
  );
  const claim = (peer: PeerRecord, seq: number, group = GROUP): void =>
    void members.emit('edition', { peer }, { group, seq, infoHash: infoHashOf(seq) });
  const [first, second, third] = [peerAt('10.0.0.1:1'), peerAt('10.0.0.2:1'), peerAt('10.0.0.3:1')];
  {
    const claims = new EditionClaims(5);
    using _listening = claims.listen(members as never, GROUP);
    claim(first, 4);
    claim(first, 5); // the kept one: this confirms nothing, since the publisher may be silent
    claim(first, 9, OTHER);
    const { read, until, stop } = reading(claims, () => Promise.resolve(false));
    claim(second, 6);
    await until(1);
    claim(first, 7);
    claim(second, 6);
    claim(second, 8);
    claim(third, 6);
    await until(6);
    await stop();
    const [a, b, c] = ['10.0.0.1:1 7', '10.0.0.2:1 8', '10.0.0.3:1 6'];
    assert.deepEqual(read, ['10.0.0.2:1 6', b, a, c, a, c]);
  }
  assert.equal(members.listenerCount('edition'), 0);
  early.push([third, { group: GROUP, seq: 6, infoHash: infoHashOf(6) }]);
  const late = new EditionClaims(5);
  using _listening = late.listen(members as never, GROUP);
  const { read, until, stop } = reading(late, () => Promise.resolve(true));
  await until(1);
  await stop();
  assert.deepEqual(read, ['10.0.0.3:1 6'], 'it was told before');
});

test('a silent member keeps no other waiting, and its host is not believed over a third connection', async () => {
  const claims = new EditionClaims();
  for (const port of [1, 2, 3])
    claims.note(peerAt(`10.0.0.1:${port}`), { group: GROUP, seq: 9, infoHash: infoHashOf(9) });
  claims.note(peerAt('10.0.0.2:1'), { group: GROUP, seq: 6, infoHash: infoHashOf(6) });
  const { read, until, stop } = reading(claims, () => new Promise(() => undefined));
  await until(3);
  await stop();
  assert.deepEqual(read, ['10.0.0.1:1 9', '10.0.0.1:2 9', '10.0.0.2:1 6']);
});

test('a host whose claim was right is believed again', async () => {
  const claims = new EditionClaims();
  const peer = peerAt('10.0.0.1:1');
  const { read, until, stop } = reading(claims, () => Promise.resolve(true));
  for (const seq of [1, 2, 3]) {
    claims.note(peer, { group: GROUP, seq, infoHash: infoHashOf(seq) });
    await until(seq);
  }
  await stop();
  assert.equal(read.length, 3);
});

test('another edition with the number of the one that is here is read once, since it proves a second history', async () => {
  const claims = new EditionClaims();
  claims.hold(5, infoHashOf(5));
  const { read, stop } = reading(claims, () => Promise.resolve(true));
  const tell = (port: number, seq: number, infoHash = infoHashOf(seq)): void =>
    claims.note(peerAt(`10.0.0.1:${port}`), { group: GROUP, seq, infoHash });
  tell(1, 5);
  tell(2, 5, OTHER);
  await turn();
  tell(3, 5, OTHER);
  tell(4, 6);
  await turn();
  claims.hold(6, infoHashOf(6));
  tell(5, 6, OTHER);
  await turn();
  await stop();
  assert.deepEqual(read, ['10.0.0.1:2 5', '10.0.0.1:4 6', '10.0.0.1:5 6']);
});
