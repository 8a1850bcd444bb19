import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberLane } from '../../src/fetch/member-lane.ts';
import { LanePolicy } from '../../src/fetch/lane-policy.ts';
import { Whereabouts } from '../../src/fetch/whereabouts.ts';

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
