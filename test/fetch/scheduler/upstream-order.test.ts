import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { asAnnounced, parseUpstream } from '../../../src/http/upstream.ts';
import { UpstreamOrder } from '../../../src/fetch/scheduler/upstream-order.ts';

const [A, B, C] = ['http://a', 'http://b', 'http://c'].map(parseUpstream) as [
  ReturnType<typeof parseUpstream>,
  ReturnType<typeof parseUpstream>,
  ReturnType<typeof parseUpstream>,
];
const honest = new Map<string, number>();

test('upstreams come in the given order', () => {
  assert.deepEqual(new UpstreamOrder([A, B, C]).of(honest), [A, B, C]);
});

test('a failing upstream comes last until it delivers again', () => {
  const order = new UpstreamOrder([A, B, C]);
  order.note(A, new NarswarmError('HTTP_STALLED', ''));
  assert.deepEqual(order.of(honest), [B, C, A]);
  order.note(B, new NarswarmError('HTTP_NOT_FOUND', ''));
  assert.deepEqual(order.of(honest), [B, C, A], 'to lack a NAR is no failure');
  order.note(A, undefined);
  assert.deepEqual(order.of(honest), [A, B, C]);
});

test('a cache that is found later comes where it is named, and one that has gone is not asked', () => {
  const order = new UpstreamOrder([B, C]);
  const { upstreams } = order;
  order.note(B, new NarswarmError('HTTP_STALLED', ''));
  assert.equal(order.update([A, B, C]), true);
  assert.deepEqual(
    [upstreams, order.of(honest)],
    [
      [A, B, C],
      [A, C, B],
    ],
  );
  assert.equal(order.update([B, C]), false);
  assert.deepEqual(order.of(honest), [C, B]);
  order.note(A, undefined); // a request to it has ended meanwhile
  for (const one of [B, C]) order.note(one, new NarswarmError('HTTP_FAILED', ''));
  assert.equal(order.areUnreachable, true);
});

test('an upstream that lied about a NAR comes after failing ones, and is not asked for it a third time', () => {
  const order = new UpstreamOrder([A, B]);
  order.note(B, new NarswarmError('HTTP_FAILED', ''));
  assert.deepEqual(order.of(new Map([[A.name, 1]])), [B, A]);
  assert.deepEqual(order.of(new Map([[A.name, 2]])), [B]);
  assert.deepEqual(
    order.of(
      new Map([
        [A.name, 2],
        [B.name, 2],
      ]),
    ),
    [],
  );
  assert.deepEqual(order.of(honest), [A, B], 'of another NAR nothing is known');
});

test('an upstream that sent two wrong NARs comes last for all, an announced one after the first', () => {
  const announced = asAnnounced(A);
  const order = new UpstreamOrder([announced, B, C]);
  order.note(C, new NarswarmError('HTTP_FAILED', ''));
  order.noteLie(announced);
  order.noteLie(B);
  assert.deepEqual(order.of(honest), [B, C, announced], 'the first of a configured cache may be an accident');
  order.noteLie(B);
  assert.deepEqual(order.of(honest), [C, announced, B]);
  assert.deepEqual(
    [announced, B, C].map((one) => order.isLiar(one)),
    [true, true, false],
  );
});
