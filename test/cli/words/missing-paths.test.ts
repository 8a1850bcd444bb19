import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { groupByReason, lackSentence, missingFacts, reasonOf } from '../../../src/cli/words/missing-paths.ts';
import { NarswarmError, type ErrorCode, type ErrorFacts } from '../../../src/errors.ts';
import { failureOf } from '../../../src/failure.ts';
import { assertTrusted } from '../../../src/nix/signature.ts';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import type { Missing } from '../../../src/subscription/state/missing.ts';

const pathOf = (letter: string, name = 'x-1.0?+'): string => `/nix/store/${letter.repeat(32)}-${name}`;
const [A, B, C] = [pathOf('a'), pathOf('b', 'b'), pathOf('c', 'c')];

const missing = (path: string, code: ErrorCode, facts: ErrorFacts = {}, cause?: unknown): Missing => ({
  path,
  ...failureOf(new NarswarmError(code, `all of it about ${path}`, { facts, cause })),
});
const http = (code: ErrorCode, url: string, attempts: number, why: string): NarswarmError =>
  new NarswarmError(code, `${url} failed after ${attempts} attempts: ${why}`, { facts: { url, attempts, why } });

suite('reasons for a missing path', () => {
  test('a cache lacks it', () => {
    const cause = new NarswarmError('NAR_UNAVAILABLE', `http://c/ does not hold the NAR of ${A}`, {
      cause: http('HTTP_NOT_FOUND', 'http://c/nar/x.nar.xz', 1, 'the server does not have it'),
      facts: { path: A, upstream: 'http://c/' },
    });
    const lost = missing(A, 'NAR_UNAVAILABLE', { path: A, why: 'x' }, new AggregateError([cause]));
    assert.equal(reasonOf(lost), 'http://c/ does not hold its NAR');
  });

  test('there is no narinfo, and the referrer is named', () => {
    const wayOut = 'add the cache that holds it with --from or --publisher; if a neighbour has it, run narswarm doctor';
    const says = `no neighbour, hash map or cache has a narinfo for it: ${wayOut}`;
    assert.equal(reasonOf(missing(A, 'NARINFO_MISSING', { path: A })), says);
    assert.equal(
      reasonOf(missing(A, 'NARINFO_MISSING', { path: A, referrer: B })),
      `no neighbour, hash map or cache has a narinfo for it, which ${B} refers to: ${wayOut}`,
    );
  });

  test('nobody trusts it', () => {
    const info = parseNarInfo(
      `StorePath: ${A}\nURL: nar/x.nar.xz\nNarHash: sha256:${'0'.repeat(52)}\nNarSize: 1\nReferences: \n`,
    );
    let failure: unknown;
    try {
      assertTrusted(info, []);
    } catch (error) {
      failure = error;
    }
    assert.match(reasonOf({ path: A, ...failureOf(failure) }), /^it is not signed \(trusted keys: none/);
  });

  test('no peer has it', () => {
    assert.equal(reasonOf(missing(A, 'NAR_UNAVAILABLE', { path: A, why: 'no peer' })), 'no peer');
  });

  test('a file of another size is named by its address, and several by their cache', () => {
    const wrong = (path: string, file: string): Extract<Missing, { reason: string }> => {
      const url = `file:///media/usb/nar/${file}`;
      const { code, facts, message } = http('SIZE_MISMATCH', url, 1, 'it has 1000 bytes, expected 5172');
      return { path, reason: message, code, facts };
    };
    const one = wrong(A, 'a.nar.xz');
    assert.equal(reasonOf(one), one.reason);
    const [group] = groupByReason([one, wrong(B, 'b.nar.xz')]);
    assert.match(group?.reason ?? '', /^file:\/\/\/media\/usb failed: it has 1000 bytes, expected 5172$/);
  });

  test('the failure of an address is shown unchanged', () => {
    const { code, facts, message } = http('HTTP_FAILED', `http://c/${'a'.repeat(32)}.narinfo`, 2, 'no');
    assert.equal(reasonOf({ path: A, reason: message, code, facts }), message);
  });

  test('the reason of another version’s state is shown unchanged', () => {
    assert.equal(reasonOf({ path: A, reason: `cannot fetch ${A}: gone` }), `cannot fetch ${A}: gone`);
    assert.equal(reasonOf({ path: A, reason: 'eaten', code: 'OF_TOMORROW' as ErrorCode }), 'eaten');
  });
});

suite('missing paths by reason', () => {
  const lost = (path: string): Missing => {
    const causes = [
      new NarswarmError('NAR_UNAVAILABLE', 'c', { facts: { path, upstream: 'http://c/sub' } }),
      http('HTTP_FAILED', `http://d/nar/${path.slice(11, 43)}.nar.xz`, path === A ? 1 : 5, 'ECONNREFUSED'),
    ];
    return missing(path, 'NAR_UNAVAILABLE', { path }, new AggregateError(causes));
  };

  test('the same reason of several files is shown once', () => {
    const reason = 'http://c/sub does not hold its NAR; http://d failed: ECONNREFUSED';
    assert.deepEqual(groupByReason([lost(A), lost(B)]), [{ reason, paths: [A, B] }]);
  });

  test('the reason of most paths comes first, and that of one path keeps its words', () => {
    const url = `http://d/${'a'.repeat(32)}.narinfo`;
    const failure = failureOf(http('HTTP_FAILED', url, 2, 'the server answered 503'));
    const groups = groupByReason([{ path: A, ...failure }, lost(B), lost(C)]);
    assert.deepEqual(
      groups.map(({ paths }) => paths),
      [[B, C], [A]],
    );
    assert.equal(groups[1]?.reason, `${url} failed after 2 attempts: the server answered 503`);
  });

  test('caches in folders are told apart', () => {
    const of = (path: string, url: string): Missing => ({ path, ...failureOf(http('HTTP_STALLED', url, 1, 'no')) });
    const groups = groupByReason([
      of(A, 'http://d/sub/nar/a.nar.xz'),
      of(B, 'http://d/sub/b.narinfo'),
      of(C, 'http://d/nar/c.nar.xz'),
    ]);
    assert.deepEqual(
      groups.map(({ paths }) => paths),
      [[A, B], [C]],
    );
    assert.equal(groups[0]?.reason, 'http://d/sub failed: no');
  });

  test('narinfos that several paths refer to are shown once', () => {
    const groups = groupByReason([A, B].map((path) => missing(path, 'NARINFO_MISSING', { referrer: `${C}-${path}` })));
    assert.deepEqual(groups, [
      {
        reason:
          'no neighbour, hash map or cache has a narinfo for it: add the cache that holds it with --from or --publisher; if a neighbour has it, run narswarm doctor',
        paths: [A, B],
      },
    ]);
  });

  test('without missing paths there is nothing to say', () => assert.deepEqual(groupByReason([]), []));
});

test('a path that the store has lost is shown with the way out', () => {
  const lost = { path: A, loss: 'gone' } as const;
  assert.equal(reasonOf(lost), 'it was here, but no longer is: run narswarm verify --repair');
  assert.deepEqual(missingFacts(lost), { ...lost, reason: reasonOf(lost) });
});

test('one sentence says that paths are missing', () => {
  const first = missing(A, 'NAR_UNAVAILABLE', { path: A, why: 'gone' });
  assert.equal(lackSentence({ first, count: 1 }), `${A} is missing: gone`);
  assert.equal(lackSentence({ first, count: 3 }), `${A} is missing, and 2 more: gone`);
});
