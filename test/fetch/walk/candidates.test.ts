import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Candidates } from '../../../src/fetch/walk/candidates.ts';
import { withoutName } from '../../../src/fetch/plan/named-file.ts';
import type { NarInfoSource } from '../../../src/fetch/sources/narinfo-sources.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { extraOf, parseNarInfo, type NarInfo } from '../../../src/nix/narinfo.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';
import { LEAF, readNarInfo } from '../../nix/fixtures.ts';
import { KEY } from '../../store/store-fixture.ts';

const { signal } = new AbortController();

test('a record of the same file with another torrent is tried, too, and each record once', async () => {
  const info = parseNarInfo(readNarInfo(LEAF));
  const recordOf = (digit: string): NarInfo => ({ ...info, extra: [['InfoHash', digit.repeat(40)]] });
  const sources = ['a', 'a', 'b'].map((digit): NarInfoSource => ({
    name: 'the hash map',
    find: async () => recordOf(digit),
  }));
  const origins = new Map([[storeHashOf(info.storePath), sources[0]!]]);
  const candidates = new Candidates(sources, [KEY], origins);
  const failure = new Error('wrong bytes');
  const next = await candidates.next(recordOf('a'), failure, signal);
  assert.equal(next && extraOf(next, 'InfoHash'), 'b'.repeat(40));
  assert.equal(await candidates.next(recordOf('b'), failure, signal), undefined);
});

test('the NAR of a disputed file is tried by its contents, too', async () => {
  const info = parseNarInfo(readNarInfo(LEAF));
  const cache: NarInfoSource = { name: 'a cache', upstream: parseUpstream('http://a'), find: async () => info };
  const candidates = new Candidates([cache], [KEY], new Map([[storeHashOf(info.storePath), cache]]));
  const failure = new Error('other contents');
  assert.deepEqual(await candidates.next(info, failure, signal, { isDisputed: true }), withoutName(info));
  assert.equal(await candidates.next(withoutName(info), failure, signal), undefined);
});
