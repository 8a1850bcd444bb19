import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SMALL_SLOTS, SmallSlots } from '../../src/fetch/small-slots.ts';

test('small NARs get one slot more with each quick NAR, and none after a slow one', () => {
  const slots = new SmallSlots();
  const takers = Array.from({ length: 100 }, () => slots.taker(() => 'a NAR'));
  const take = (): number => takers.filter((next) => next() !== undefined).length;
  assert.equal(take(), 0);
  assert.equal(slots.noteNar(30), true);
  assert.equal(slots.noteNar(30), true);
  assert.equal(take(), 2);
  for (let nars = 0; nars < 100; nars++) slots.noteNar(30);
  assert.equal(take(), SMALL_SLOTS);
  assert.equal(slots.noteNar(30), false, 'nothing has changed');
  assert.equal(slots.noteNar(5_000), false);
  assert.equal(take(), 0);
});

test('a slot is free again once its taker asks for the next NAR', () => {
  const slots = new SmallSlots();
  slots.noteNar(30);
  const waiting = ['first', 'second'];
  const [one, other] = [slots.taker(() => waiting.shift()), slots.taker(() => waiting.shift())];
  assert.equal(one(), 'first');
  assert.equal(other(), undefined);
  assert.equal(one(), 'second');
  assert.equal(one(), undefined);
  waiting.push('third');
  assert.equal(other(), 'third');
});

test('a far server gets as many slots as a near one, unless our requests make it slower', () => {
  const slots = new SmallSlots();
  for (const tookMs of [620, 310, 900]) assert.equal(slots.noteNar(tookMs), true, `${tookMs} ms`);
  for (let nars = 0; nars < SMALL_SLOTS; nars++) slots.noteNar(600);
  const take = (): number => takers.filter((next) => next() !== undefined).length;
  const takers = Array.from({ length: 100 }, () => slots.taker(() => 'a NAR'));
  assert.equal(take(), SMALL_SLOTS);
  slots.noteNar(1_300);
  assert.equal(take(), 0, 'four times its soonest answer');
});

test('a slow line gets no slots, however slow its soonest NAR was', () => {
  const slots = new SmallSlots();
  assert.equal(slots.noteNar(2_500), false);
  assert.equal(slots.noteNar(2_100), false);
});
