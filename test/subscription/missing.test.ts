import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  groupByReason,
  isLackSentence,
  lackSentence,
  leftOutSentence,
  reasonOf,
  type Missing,
} from '../../src/subscription/missing.ts';

const pathOf = (letter: string, name = 'x-1.0?+'): string => `/nix/store/${letter.repeat(32)}-${name}`;
const [A, B, C] = [pathOf('a'), pathOf('b', 'b'), pathOf('c', 'c')];

suite('why a path is missing', () => {
  const cases: readonly (readonly [name: string, reason: string, says: string])[] = [
    [
      'a cache without it',
      `cannot fetch ${A}: http://c/ does not hold the NAR of ${A}`,
      'http://c/ does not hold its NAR',
    ],
    [
      'no narinfo, named in full',
      `no hash map and no cache has a narinfo of ${A}: add the cache`,
      'no hash map and no cache has a narinfo of it: add the cache',
    ],
    [
      'no narinfo, named by its base name, with what refers to it',
      `no hash map and no cache has a narinfo of ${A.slice('/nix/store/'.length)}, which ${B} refers to: add the cache`,
      `no hash map and no cache has a narinfo of it, which ${B} refers to: add the cache`,
    ],
    [
      'nobody trusts it',
      `${A} is signed only by keys not trusted here: "b-1"`,
      'it is signed only by keys not trusted here: "b-1"',
    ],
    ['nobody can have signed it', `${A} has no well-formed signature`, 'it has no well-formed signature'],
    ['nobody trusts another', `${B} is not signed`, `${B} is not signed`],
    ['its hash alone', `no narinfo of ${'a'.repeat(32)}`, 'no narinfo of it'],
    ['an address', `http://c/${'a'.repeat(32)}.narinfo failed`, `http://c/${'a'.repeat(32)}.narinfo failed`],
    ['another path', `cannot fetch ${B}: no disk`, `cannot fetch ${B}: no disk`],
    ['a longer name', `the NAR of x${'a'.repeat(32)}-y is large`, `the NAR of x${'a'.repeat(32)}-y is large`],
  ];
  for (const [name, reason, says] of cases) test(name, () => assert.equal(reasonOf({ path: A, reason }), says));

  test('what is no store path is left as it is', () => {
    assert.equal(reasonOf({ path: 'desktop', reason: 'no map has desktop' }), 'no map has desktop');
  });
});

suite('missing paths by reason', () => {
  const lost = (path: string): Missing => ({
    path,
    reason: `cannot fetch ${path}: http://c/sub does not hold the NAR of ${path}; http://d/nar/${path.slice(11, 43)}.nar.xz failed after ${path === A ? '1 attempt' : '5 attempts'}: ECONNREFUSED`,
  });

  test('the same of several files is one reason', () => {
    const reason = 'http://c/sub does not hold its NAR; http://d failed: ECONNREFUSED';
    assert.deepEqual(groupByReason([lost(A), lost(B)]), [{ reason, paths: [A, B] }]);
  });

  test('what takes most comes first, and what takes one path keeps its words', () => {
    const reason = `http://d/${'a'.repeat(32)}.narinfo failed after 2 attempts: the server answered 503`;
    const groups = groupByReason([{ path: A, reason }, lost(B), lost(C)]);
    assert.deepEqual(
      groups.map(({ paths }) => paths),
      [[B, C], [A]],
    );
    assert.equal(groups[1]?.reason, reason);
  });

  test('narinfos that several paths refer to', () => {
    const missing = [A, B].map((path) => ({
      path,
      reason: `no cache has a narinfo of ${path}, which ${C}-${path} refers to: add it`,
    }));
    assert.deepEqual(groupByReason(missing), [{ reason: 'no cache has a narinfo of it: add it', paths: [A, B] }]);
  });

  test('none', () => assert.deepEqual(groupByReason([]), []));
});

test('that paths were left out, with the first few', () => {
  assert.equal(leftOutSentence([A]), `1 of its paths is in no cache and was left out: ${A}`);
  assert.equal(leftOutSentence([A, B]), `2 of its paths are in no cache and were left out: ${A}, ${B}`);
  assert.match(leftOutSentence([A, B, C, A, B, C, A]), /^7 of its paths .*, and 2 more$/);
});

suite('that paths are missing, in one sentence', () => {
  const first = { path: A, reason: `cannot fetch ${A}: gone` };
  test('one, and several', () => {
    assert.equal(lackSentence(first, 1), `${A} is missing: gone`);
    assert.equal(lackSentence(first, 3), `${A} is missing, and 2 more: gone`);
  });

  test('is known again, and told from other failures', () => {
    assert.ok(isLackSentence(lackSentence(first, 3), [B, A]));
    assert.ok(!isLackSentence(lackSentence(first, 3), [B]));
    assert.ok(!isLackSentence('the server does not have the list', [A]));
  });
});
