import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SMALL_SLOTS, SmallSlots } from '../../../src/fetch/scheduler/small-slots.ts';

test('small NARs get two slots more with each quick NAR, and none after a slow one', () => {
  const slots = new SmallSlots<string>(() => 1_000);
  const takers = Array.from({ length: 200 }, () => slots.taker(() => 'a NAR'));
  const take = (): number => takers.filter((next) => next() !== undefined).length;
  assert.equal(take(), 0);
  assert.equal(slots.noteNar(30), true);
  assert.equal(slots.noteNar(30), true);
  assert.equal(take(), 4);
  for (let nars = 0; nars < 100; nars++) slots.noteNar(30);
  assert.equal(take(), SMALL_SLOTS);
  assert.equal(slots.noteNar(30), false, 'nothing has changed');
  assert.equal(slots.noteNar(5_000), false);
  assert.equal(take(), 0);
});

test('a slot is free again once its taker asks for the next NAR', () => {
  const slots = new SmallSlots<string>(() => 1_000);
  slots.noteNar(30);
  const waiting = ['first', 'second', 'third'];
  const next = (): string | undefined => waiting.shift();
  const [one, two, other] = [slots.taker(next), slots.taker(next), slots.taker(next)];
  assert.equal(one(), 'first');
  assert.equal(two(), 'second');
  assert.equal(other(), undefined);
  assert.equal(one(), 'third');
  assert.equal(one(), undefined);
  waiting.push('fourth');
  assert.equal(other(), 'fourth');
});

test('a far server gets as many slots as a near one, unless our requests make it slower', () => {
  const slots = new SmallSlots<string>(() => 1_000);
  for (const tookMs of [620, 310, 900]) assert.equal(slots.noteNar(tookMs), true, `${tookMs} ms`);
  for (let nars = 0; nars < SMALL_SLOTS; nars++) slots.noteNar(600);
  const take = (): number => takers.filter((next) => next() !== undefined).length;
  const takers = Array.from({ length: 200 }, () => slots.taker(() => 'a NAR'));
  assert.equal(take(), SMALL_SLOTS);
  slots.noteNar(1_300);
  assert.equal(take(), 0, 'four times its soonest answer');
});

test('a slow line gets no slots, however slow its soonest NAR was', () => {
  const slots = new SmallSlots<string>(() => 1_000);
  assert.equal(slots.noteNar(2_500), false);
  assert.equal(slots.noteNar(2_100), false);
});

test('no slot is given while small NARs of 32 MiB are on their way', () => {
  const slots = new SmallSlots<number>((nar) => nar);
  for (let nars = 0; nars < SMALL_SLOTS; nars++) slots.noteNar(30);
  const MIB = 1024 * 1024;
  const takers = Array.from({ length: SMALL_SLOTS }, () => slots.taker(() => MIB));
  assert.equal(takers.filter((next) => next() !== undefined).length, 32);
  assert.equal(takers[40]?.(), undefined);
  assert.equal(takers[0]?.(), MIB, 'its last one has come');
});
