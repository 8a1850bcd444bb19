/** Decides who gets the next NAR, from a clock and rates alone. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LanePolicy } from '../../../src/fetch/scheduler/lane-policy.ts';

const MB = 1_000_000;

function policyAt(options: { hasUpstream?: boolean; standstillMs?: number; isHeldBack?: () => boolean } = {}) {
  const clock = { ms: 0 };
  const policy = new LanePolicy({ hasUpstream: true, ...options, now: () => clock.ms });
  /** Lets peers and upstream send at these rates, in bytes a second, for a time. */
  const run = (seconds: number, peers: number, upstream = 0): void => {
    for (let tick = 0; tick < seconds * 10; tick++) {
      clock.ms += 100;
      if (peers > 0) policy.onBytes('peers', peers / 10);
      if (upstream > 0) policy.onBytes('upstream', upstream / 10);
    }
  };
  return { clock, policy, run };
}

suite('LanePolicy', () => {
  test('peers have three seconds before an upstream takes NARs that wait for them', () => {
    const { policy, clock } = policyAt();
    assert.equal(policy.upstreamMayHelp(true), false);
    clock.ms = 2_999;
    assert.equal(policy.upstreamMayHelp(true), false);
    clock.ms = 3_000;
    assert.equal(policy.upstreamMayHelp(true), true);
  });

  test('NARs that are given later leave peers as much time as the first', () => {
    const { policy, clock } = policyAt();
    clock.ms = 10_000;
    assert.deepEqual([policy.isEarly, policy.upstreamMayHelp(true)], [false, true]);
    policy.onMore();
    assert.deepEqual([policy.isEarly, policy.upstreamMayHelp(true)], [true, false]);
    clock.ms = 11_500;
    assert.deepEqual([policy.isEarly, policy.upstreamMayHelp(true)], [false, false]);
    clock.ms = 13_000;
    assert.deepEqual([policy.isEarly, policy.upstreamMayHelp(true)], [false, true]);
  });

  test('once clients have kept a NAR waiting in vain, an upstream takes NARs that wait for them', () => {
    const { policy, clock, run } = policyAt();
    clock.ms = 1_500;
    policy.onWaited();
    assert.equal(policy.upstreamMayHelp(true), true);
    run(0.1, MB);
    assert.equal(policy.upstreamMayHelp(true), false, 'now peers send');
  });

  test('idle upstreams wait for other processes for at most two seconds or a quarter of the run', () => {
    const { policy, clock } = policyAt();
    const look = (seconds: number, hasWaited: boolean): void => {
      for (let tick = 0; tick < seconds * 4; tick++) {
        clock.ms += 250;
        policy.onLook(hasWaited ? 'wait' : 'rest');
      }
    };
    look(1.75, true);
    assert.equal(policy.isSharing, true);
    look(0.25, true);
    assert.equal(policy.isSharing, false);
    look(10, false); // busy with its own share
    assert.equal(policy.isSharing, true);
    look(2, true);
    assert.equal(policy.isSharing, false);
  });

  test('claims of other processes are believed while idle upstreams have waited for ten seconds or half of the run', () => {
    const { clock, policy } = policyAt();
    const pass = (seconds: number, upstreams: 'wait' | 'rest'): void => {
      for (let tick = 0; tick < seconds * 4; tick++) {
        clock.ms += 250;
        policy.onLook(upstreams);
      }
    };
    pass(9, 'wait');
    assert.equal(policy.areClaimsBelieved, true);
    pass(2, 'wait');
    assert.equal(policy.areClaimsBelieved, false);
    pass(12, 'rest');
    assert.equal(policy.areClaimsBelieved, true);
    pass(2, 'wait');
    assert.equal(policy.areClaimsBelieved, false);
  });

  test('time in which this process did not run is no time of waiting', () => {
    const { clock, policy } = policyAt();
    policy.onLook('wait');
    clock.ms += 60_000; // it slept
    policy.onLook('wait');
    assert.equal(policy.isSharing, true);
    assert.equal(policy.areClaimsBelieved, true);
  });

  test('on a machine with so much to do that it looks only once a second, most of that is no time of waiting', () => {
    const { clock, policy } = policyAt();
    for (let second = 0; second < 6; second++) {
      clock.ms += 1_000;
      policy.onLook('wait');
    }
    assert.equal(policy.isSharing, true);
    clock.ms += 1_000;
    policy.onLook('wait');
    assert.equal(policy.isSharing, false);
  });

  test('waiting for other processes counts only while members are slower than our upstreams were', () => {
    const { policy, run } = policyAt();
    assert.equal(policy.upstreamBytesPerSec, undefined);
    const wait = (seconds: number, peers: number): void => {
      for (let tick = 0; tick < seconds * 4; tick++) {
        run(0.3, peers);
        policy.onLook('wait');
      }
    };
    for (let second = 0; second < 2; second++) {
      run(1, 0, MB);
      policy.onLook('work');
    }
    assert.equal(policy.upstreamBytesPerSec, MB);
    wait(100, 1.1 * MB);
    assert.equal(policy.isSharing, true);
    wait(60, MB / 10); // a trickle
    assert.equal(policy.isSharing, false);
  });

  test('upstreams are silent if they were asked 1.5 seconds ago, and peers have sent something since', () => {
    const { policy, clock, run } = policyAt();
    run(5, MB);
    const areSilent = (timesLeft = 0, atMs = 0): boolean => policy.areUpstreamsSilent(atMs, timesLeft);
    assert.equal(areSilent(), false); // nobody has asked the upstreams
    policy.onUpstreamAsked();
    clock.ms += 2_000;
    assert.equal(areSilent(), false); // nobody sends anything: the line may be out
    run(1, MB);
    assert.equal(areSilent(), true);
    run(1, MB, MB);
    assert.equal(areSilent(), false);
    run(1.5, MB);
    assert.equal(areSilent(), false);
    run(0.1, MB);
    assert.equal(areSilent(), true);
  });

  test('upstreams that were silent before, or asked only now, have more time', () => {
    const { policy, clock, run } = policyAt();
    policy.onUpstreamAsked();
    run(2, MB);
    assert.equal(policy.areUpstreamsSilent(0, 0), true);
    assert.equal(policy.areUpstreamsSilent(0, 1), false);
    assert.equal(policy.areUpstreamsSilent(clock.ms - 1_000, 0), false);
    run(2, MB);
    assert.equal(policy.areUpstreamsSilent(0, 1), true);
  });

  test('if nobody sends anything, a NAR is left to a member that has it after twice the time', () => {
    const { policy, clock } = policyAt();
    policy.onUpstreamAsked();
    clock.ms += 3_001;
    assert.equal(policy.areUpstreamsSilent(0, 0), true);
  });

  test('a NAR that silent upstreams left to members is not theirs again at once', () => {
    const { policy, clock } = policyAt();
    policy.onUpstreamAsked();
    clock.ms += 4_000;
    assert.equal(policy.upstreamMayHelp(true), true);
    policy.onLeft();
    assert.equal(policy.upstreamMayHelp(true), false);
    clock.ms += 15_000;
    assert.equal(policy.upstreamMayHelp(true), true);
  });

  test('without a known peer nobody waits', () => {
    assert.equal(policyAt().policy.upstreamMayHelp(false), true);
  });

  test('an upstream takes its share if it is faster than half of the peers’ rate', () => {
    const fast = policyAt();
    fast.run(5, 10 * MB, 6 * MB);
    assert.equal(fast.policy.upstreamMayHelp(true), true);
    const slow = policyAt();
    slow.run(5, 10 * MB, 1 * MB);
    assert.equal(slow.policy.upstreamMayHelp(true), false);
  });

  test('upstreams that took a NAR from peers give it back if they are much slower than those were', () => {
    const { policy, clock, run } = policyAt();
    run(5, MB);
    const { peersBytesPerSec } = policy;
    const atMs = clock.ms;
    run(1.5, 0, MB / 10);
    assert.equal(policy.wasHelpInVain(atMs, peersBytesPerSec), false, 'too early to tell');
    run(0.1, 0, MB / 10);
    assert.equal(policy.wasHelpInVain(atMs, peersBytesPerSec), true);
    run(3, 0, 0.6 * MB);
    assert.equal(policy.wasHelpInVain(atMs, peersBytesPerSec), false);
  });

  test('peers that our own limit slows down do not count as slow', () => {
    const { policy, run } = policyAt({ isHeldBack: () => true });
    run(5, MB, MB);
    assert.equal(policy.upstreamMayHelp(true), false);
  });

  test('an idle upstream gets a NAR now and then, and less often after failures', () => {
    const { policy, run } = policyAt();
    run(4, MB);
    assert.equal(policy.upstreamMayHelp(true), true, 'the first trial');
    run(14, MB);
    assert.equal(policy.upstreamMayHelp(true), false);
    run(2, MB);
    assert.equal(policy.upstreamMayHelp(true), true, 'the second, after 15 s');
    policy.onFailedTrial();
    run(20, MB);
    assert.equal(policy.upstreamMayHelp(true), false);
    run(11, MB);
    assert.equal(policy.upstreamMayHelp(true), true, 'the third, after 30 s');
  });

  test('for a NAR that upstreams have failed to give, peers have as much time as without any', () => {
    const { policy, run } = policyAt();
    run(1, MB);
    assert.equal(policy.patience().firstByteMs, 1_500);
    assert.deepEqual(policy.patience(true), { firstByteMs: Infinity, stallMs: 3_000 });
  });

  test('without an upstream, patience with peers ends with the standstill', () => {
    const { policy, clock, run } = policyAt({ hasUpstream: false, standstillMs: 10_000 });
    run(5, MB);
    assert.equal(policy.upstreamMayHelp(false), false);
    assert.equal(policy.patience().firstByteMs, Infinity);
    clock.ms += 10_001;
    assert.equal(policy.standsStill, true);
    assert.deepEqual(policy.patience(), { firstByteMs: 0, stallMs: 0 });
  });

  test('bytes of a liar do not delay the end of a standstill', () => {
    const { policy, clock, run } = policyAt({ hasUpstream: false, standstillMs: 10_000 });
    run(5, MB);
    policy.onVerified();
    run(8, MB); // not checked yet
    assert.equal(policy.standsStill, false);
    policy.onLie();
    run(3, MB);
    assert.equal(policy.standsStill, true);
    policy.onVerified();
    assert.equal(policy.standsStill, false);
    run(9, MB);
    clock.ms += 9_000;
    assert.equal(policy.standsStill, false, 'honest peers may be slow');
  });

  test('without an upstream, a begun NAR keeps its source while the line is out', () => {
    const { policy, clock, run } = policyAt({ hasUpstream: false });
    run(5, MB);
    assert.equal(policy.patience().stallMs, 3_000);
    clock.ms += 1_500;
    assert.equal(policy.patience().stallMs, 20_000);
  });

  test('with an upstream, the peers of a NAR have a second and a half', () => {
    assert.equal(policyAt().policy.patience().firstByteMs, 1_500);
  });
});
