/** Parts of NARs that are given while they arrive. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { prefixOf } from '../../../src/exchange/messages/messages.ts';
import { ArrivingNars } from '../../../src/fetch/scheduler/arriving-nars.ts';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { newTask, type Task } from '../../../src/fetch/scheduler/task.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { HeldNars } from '../../../src/serve/held-nars.ts';
import type { PartialNar } from '../../../src/store/partial.ts';
import { infoOf } from '../walk/narinfos.ts';

/** Bytes of each piece. */
const PIECE = 256 * 1024;
const SIZE = 3 * PIECE + 5;
const namedBy = parseUpstream('http://cache.example');
const isCache = (origin: string): boolean => origin === namedBy.name;

/** A NAR of which the first bytes are here. */
function arriving(job: Partial<NarJob> = {}): { readonly task: Task; front: number; origin: string } {
  const info = infoOf('long');
  const whole = { fileHash: info.fileHash!, sizeBytes: SIZE, extension: 'xz', info, storePaths: [info.storePath] };
  const made = { task: newTask({ ...whole, torrent: undefined, namedBy, ...job }), front: 0, origin: namedBy.name };
  const frontFrom: PartialNar['frontFrom'] = (isTrusted) => (isTrusted(made.origin) ? made.front : 0);
  made.task.partial = { frontFrom, read: async () => new Uint8Array() } as Partial<PartialNar> as PartialNar;
  return made;
}

/** Returns the pieces that members may get. */
async function givenOf(held: HeldNars, { job: { fileHash } }: Task): Promise<number[]> {
  await new Promise(setImmediate); // decides whether it is shared
  const pieces = held.holds(prefixOf(fileHash));
  return [0, 1, 2, 3].filter((index) => pieces !== 'whole' && pieces?.has(index) === true);
}

suite('ArrivingNars', () => {
  const shared = { includes: async () => true };
  const pathOf = (): string => '/nowhere';

  test('gives each whole piece that has come from a cache, and the last one when the NAR is right', async () => {
    await using held = new HeldNars(shared);
    const nars = new ArrivingNars(held, pathOf);
    const made = arriving();
    const given: number[][] = [];
    for (const front of [PIECE - 1, PIECE, 2 * PIECE + 1, SIZE - 1]) {
      made.front = front;
      nars.giveFront(made.task, isCache);
      given.push(await givenOf(held, made.task));
    }
    nars.giveRest(made.task);
    given.push(await givenOf(held, made.task));
    assert.deepEqual(given, [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]);
  });

  test('gives nothing any more after its end', async () => {
    await using held = new HeldNars(shared);
    const nars = new ArrivingNars(held, pathOf);
    const made = arriving();
    made.front = 2 * PIECE;
    nars.giveFront(made.task, isCache);
    nars.end(made.task.job.fileHash);
    assert.deepEqual(await givenOf(held, made.task), []);
  });

  test('gives nothing of a file that no configured cache has named', async () => {
    await using held = new HeldNars(shared);
    const made = arriving({ namedBy: undefined });
    made.front = 2 * PIECE;
    new ArrivingNars(held, pathOf).giveFront(made.task, isCache);
    assert.deepEqual(await givenOf(held, made.task), []);
  });

  test('gives nothing that a member has sent before the whole NAR is checked', async () => {
    await using held = new HeldNars(shared);
    const made = arriving();
    made.front = 2 * PIECE;
    made.origin = '10.0.0.9:16277';
    new ArrivingNars(held, pathOf).giveFront(made.task, isCache);
    assert.deepEqual(await givenOf(held, made.task), []);
  });

  test('gives nothing of a NAR that is not shared', async () => {
    await using held = new HeldNars({ includes: async () => false });
    const made = arriving();
    made.front = 2 * PIECE;
    new ArrivingNars(held, pathOf).giveFront(made.task, isCache);
    assert.deepEqual(await givenOf(held, made.task), []);
  });

  test('gives no parts of a NAR of which a cache has sent wrong bytes', async () => {
    await using held = new HeldNars(shared);
    const made = arriving();
    made.task.lies.set(namedBy.name, 1);
    made.front = 2 * PIECE;
    new ArrivingNars(held, pathOf).giveFront(made.task, isCache);
    assert.deepEqual(await givenOf(held, made.task), []);
  });
});
