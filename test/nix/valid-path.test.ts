import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { isOfSameContents, parseRegistrations } from '../../src/nix/valid-path.ts';
import { failsWith, LEAF, readNarInfo, TOP } from './fixtures.ts';

const A = '/nix/store/d71rfqmrpl3s0hqyvmiykw1yg2ymgnjw-a';
const B = '/nix/store/v94y6r6xingd9f3wlxs2jsjb189fljll-b';
/** As `nix-store --dump-db` writes them: A has no deriver and no references, B has both. */
const LINES = [A, '43'.repeat(32), '5112', '', '0', B, '8a'.repeat(32), '272', `${B}.drv`, '2', A, B];

test('reads the output of nix-store --dump-db', () => {
  const [a, b, ...more] = parseRegistrations(LINES);
  assert.deepEqual([a?.storePath, a?.narSize, a?.references], [A, 5112, []]);
  assert.deepEqual([b?.storePath, b?.narSize, b?.references], [B, 272, [A.slice(11), B.slice(11)]]);
  assert.match(a?.narHash ?? '', /^[0-9a-z]{52}$/);
  assert.deepEqual([more, parseRegistrations([])], [[], []]);
});

test('refuses any other shape', () => {
  for (const lines of [
    LINES.slice(0, -1),
    LINES.slice(1),
    [A, '43', '5112', '', '0'],
    [A, '43'.repeat(32), '5112', '', '-1'],
    [A, '43'.repeat(32), '', '', '0'],
    ['{"paths":[]}'],
  ])
    assert.throws(() => parseRegistrations(lines), failsWith('NIX_FAILED', /in a shape that narswarm does not know/));
});

test('contents are the same only if all signed fields are the same', () => {
  const info = parseNarInfo(readNarInfo(TOP));
  const { storePath, narHash, narSize, references } = info;
  const path = { storePath, narHash, narSize, references: references.toReversed() };
  const other = parseNarInfo(readNarInfo(LEAF));
  assert.equal(isOfSameContents(info, path), true);
  for (const change of [
    { storePath: other.storePath },
    { narHash: other.narHash },
    { narSize: narSize + 1 },
    { references: references.slice(1) },
  ])
    assert.equal(isOfSameContents(info, { ...path, ...change }), false);
});
