import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noteGoodBytes, noteSilence, PeerTable } from '../../../src/discovery/peer-table.ts';
import type { MemberLane } from '../../../src/fetch/scheduler/member-lane.ts';
import { LanePolicy } from '../../../src/fetch/scheduler/lane-policy.ts';
import { newTask } from '../../../src/fetch/scheduler/task.ts';
import { Whereabouts } from '../../../src/fetch/scheduler/whereabouts.ts';
import type { Network } from '../../../src/swarm/network.ts';
import { torrentOf } from '../../swarm/swarm-fixture.ts';
import { infoOf } from '../walk/narinfos.ts';

test('members that have just gone may return for a while', () => {
  let nowMs = 1_000_000;
  const members = { size: 0, look: () => undefined };
  const where = new Whereabouts(
    undefined,
    () => members as unknown as MemberLane,
    new LanePolicy({ hasUpstream: true }),
    () => nowMs,
  );
  where.look();
  assert.equal(where.mayMembersReturn, false, 'there were none');
  members.size = 1;
  where.look();
  assert.equal(where.mayMembersReturn, true);
  members.size = 0;
  nowMs += 10_000;
  where.look();
  assert.equal(where.areMembersThere, false);
  assert.equal(where.mayMembersReturn, true, 'it may be restarting');
  nowMs += 10_000;
  assert.equal(where.mayMembersReturn, false);
});

test('a silent client is asked again once it sends, and before that only for NARs that no upstream has', () => {
  const peer = new PeerTable().add({ host: '127.0.0.1', port: 1 });
  const where = new Whereabouts(
    { foreigners: () => [peer] } as unknown as Network,
    () => undefined,
    new LanePolicy({ hasUpstream: true }),
  );
  const [torrent, info] = [torrentOf(Buffer.from('a NAR')), infoOf('a')];
  const job = { ...torrent, torrent, info, storePaths: [info.storePath], extension: 'xz' };
  const [task, refused] = [newTask(job), { ...newTask(job), upstreamFailure: new Error('404') }];
  const isAsked = (): [boolean, boolean] => {
    where.look();
    return [where.areForeignersFor(task), where.areForeignersFor(refused)];
  };
  assert.deepEqual(isAsked(), [true, true]);
  assert.ok(noteSilence(peer));
  assert.deepEqual(isAsked(), [false, true]);
  noteGoodBytes(peer, 1);
  assert.deepEqual(isAsked(), [true, true]);
});
