/** When a NAR that upstreams could not give is given up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reasonToGiveUp, type Hope } from '../../../src/fetch/scheduler/giving-up.ts';
import { LanePolicy } from '../../../src/fetch/scheduler/lane-policy.ts';
import { newTask, type Task } from '../../../src/fetch/scheduler/task.ts';
import { UpstreamOrder } from '../../../src/fetch/scheduler/upstream-order.ts';
import type { Whereabouts } from '../../../src/fetch/scheduler/whereabouts.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { makeCachedNar } from './cached-nar.ts';

const STANDSTILL_MS = 5_000;
const UPSTREAM = parseUpstream('http://127.0.0.1:1');

let nowMs = 0;

/** Peers of which nobody has the NAR. */
function hope({
  areThere = true,
  waitsForPeers = true,
  isAlone = false,
  mayCome = true,
  canReturn = false,
  hasLost = false,
} = {}): Hope {
  const where: Partial<Whereabouts> = {
    isTooEarly: false,
    mayPeersCome: mayCome,
    mayMembersReturn: canReturn,
    isLostByMembers: () => hasLost,
    areMembersThere: areThere,
    doForeignersAnswer: false,
    isAtMembers: () => false,
    mayPeersHave: () => false,
  };
  const policy = new LanePolicy({ hasUpstream: !isAlone, standstillMs: STANDSTILL_MS, now: () => nowMs });
  const order = new UpstreamOrder([UPSTREAM]);
  return { isAlone, where: where as Whereabouts, policy, order, waitsForPeers };
}

test('a NAR that upstreams and peers lack is given up, or waits for peers that are there', async (t) => {
  const task: Task = newTask((await makeCachedNar(t, 1000)).job);
  const isGivenUp = (facts: Hope): boolean => reasonToGiveUp(task, facts) !== undefined;
  assert.equal(isGivenUp(hope()), false, 'the upstream was not asked');
  task.upstreamFailure = new Error('it has none');
  assert.equal(isGivenUp(hope({ waitsForPeers: false })), true);
  assert.equal(isGivenUp(hope({ areThere: false })), true);
  const patient = hope();
  assert.equal(isGivenUp(patient), false);
  nowMs += STANDSTILL_MS + 1;
  assert.equal(isGivenUp(patient), true, 'nobody has sent anything for as long as is waited');
});

test('without an upstream, a NAR waits for peers only if there are some, or some can be found', async (t) => {
  const task: Task = newTask((await makeCachedNar(t, 1000)).job);
  assert.equal(reasonToGiveUp(task, hope({ isAlone: true })), undefined);
  const nobody = reasonToGiveUp(task, hope({ isAlone: true, mayCome: false }));
  assert.match(nobody?.message ?? '', /neither a cache nor a peer to ask: name a cache with --from/);
  assert.equal(reasonToGiveUp(task, hope({ mayCome: false })), undefined, 'an upstream may have it');
});

test('if no upstream answers, a NAR waits for members that are there, unless they have lost it', async (t) => {
  const task: Task = newTask((await makeCachedNar(t, 1000)).job);
  task.upstreamFailure = new Error('it is off');
  for (const hasLost of [false, true]) {
    const facts = hope({ waitsForPeers: false, canReturn: true, hasLost });
    facts.order.meritOf(UPSTREAM).isUnreachable = true;
    assert.equal(reasonToGiveUp(task, facts) !== undefined, hasLost);
  }
});
