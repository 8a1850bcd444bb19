/** Decides which NAR an upstream takes from members. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LanePolicy } from '../../../src/fetch/scheduler/lane-policy.ts';
import { SourceChoice } from '../../../src/fetch/scheduler/source-choice.ts';
import { TakeOvers } from '../../../src/fetch/scheduler/take-overs.ts';
import { TaskQueues } from '../../../src/fetch/scheduler/task-queues.ts';
import { newTask, type Task } from '../../../src/fetch/scheduler/task.ts';
import { Whereabouts } from '../../../src/fetch/scheduler/whereabouts.ts';
import { infoOf } from '../walk/narinfos.ts';

/** A NAR that members have, in a fetch in which peers send nothing, so that an upstream may help. */
function waiting() {
  const clock = { ms: 0 };
  const policy = new LanePolicy({ hasUpstream: true, now: () => clock.ms });
  clock.ms += 60_000;
  const where = new Whereabouts(undefined, () => undefined, policy);
  let isAtMembers = true;
  const queues = new TaskQueues(() => isAtMembers);
  const choice = new SourceChoice({ queues, where, policy, takeOvers: new TakeOvers<Task>() });
  const info = infoOf('nar');
  const { fileHash } = info;
  const task = newTask({
    fileHash,
    sizeBytes: 9_000,
    extension: 'xz',
    info,
    storePaths: [info.storePath],
  } as Task['job']);
  queues.add(task);
  const lose = (): void => {
    isAtMembers = false;
    queues.sort();
    isAtMembers = true;
    queues.sort();
  };
  return { choice, task, lose };
}

suite('SourceChoice', () => {
  test('members have two seconds for a NAR that they have got', () => {
    const { choice, task } = waiting();
    assert.equal(choice.nextForUpstream(), undefined);
    task.atMembersSinceMs -= 1_000;
    assert.equal(choice.nextForUpstream(), undefined);
    task.atMembersSinceMs -= 1_000;
    assert.equal(choice.nextForUpstream(), task);
    assert.ok(task.isHelped);
  });

  test('members that have got it again have as much time again', () => {
    const { choice, task, lose } = waiting();
    task.atMembersSinceMs -= 2_000;
    lose();
    assert.equal(choice.nextForUpstream(), undefined);
  });
});
