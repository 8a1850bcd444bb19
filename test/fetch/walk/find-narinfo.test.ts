import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { firstTrusted } from '../../../src/fetch/walk/find-narinfo.ts';
import type { NarInfoSource } from '../../../src/fetch/sources/narinfo-sources.ts';
import type { StoreHash } from '../../../src/nix/brands.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { signNarInfo } from '../../../src/nix/signature.ts';
import { hashOf, infoOf } from './narinfos.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const KEYS = [{ name: 'k', key: publicKey }];
const signed = (info: NarInfo): NarInfo => ({
  ...info,
  signatures: [signNarInfo(info, { name: 'k', key: privateKey })],
});
const GOOD = signed(infoOf('a'));
const { signal } = new AbortController();

function source(name: string, answer: () => NarInfo | undefined): NarInfoSource & { asked: number } {
  const made = { name, asked: 0, find: async () => (made.asked++, answer()) };
  return made;
}
const down = (): never => {
  throw new NarswarmError('HTTP_STALLED', 'it stalled');
};

test('takes the first source with a signed narinfo, and names it', async () => {
  const origins = new Map();
  const sources = [source('one', () => undefined), source('two', () => GOOD), source('three', () => GOOD)];
  assert.equal(await firstTrusted(() => sources, KEYS, origins)(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a'))?.name, 'two');
  assert.equal(sources[2]?.asked, 0);
});

test('sources that have their answer at hand are not asked', async () => {
  const origins = new Map();
  const empty = { ...source('empty', () => undefined), peek: () => 'absent' as const };
  const full = { ...source('full', down), peek: () => GOOD };
  assert.equal(await firstTrusted(() => [empty, full], KEYS, origins)(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a')), full);
  assert.equal(empty.asked + full.asked, 0);
});

test('a source that has to be asked is asked before those behind it that have a narinfo at hand', async () => {
  const origins = new Map();
  const first = { ...source('first', () => GOOD), peek: () => undefined };
  const second = { ...source('second', () => GOOD), peek: () => GOOD };
  assert.equal(await firstTrusted(() => [first, second], KEYS, origins)(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a')), first);
});

test('a narinfo at hand needs a signature, too', async () => {
  const lying = { ...source('lie', () => infoOf('a')), peek: () => infoOf('a') };
  assert.equal(await firstTrusted(() => [lying, source('two', () => GOOD)], KEYS)(hashOf('a'), signal), GOOD);
  await assert.rejects(firstTrusted(() => [lying], KEYS)(hashOf('a'), signal), { code: 'NARINFO_UNTRUSTED' });
});

test('an unreadable narinfo is named by its path', async () => {
  const corrupt = source('one', () => {
    throw new NarswarmError('NARINFO_INVALID', 'corrupt narinfo');
  });
  await assert.rejects(firstTrusted(() => [corrupt], KEYS)(hashOf('a'), signal), {
    message: `${hashOf('a')}.narinfo: corrupt narinfo (from one)`,
  });
});

test('the target vouches for what it holds, signed or not', async () => {
  const target = { ...source('target', () => infoOf('a')), isTarget: true };
  const found = await firstTrusted(() => [source('lie', () => infoOf('a')), target], KEYS)(hashOf('a'), signal);
  assert.deepEqual(found, infoOf('a'));
});

test('a trusted source needs no signature, but must give the narinfo of the right path', async () => {
  const trusted = { ...source('trusted', () => infoOf('a')), isTrusted: true };
  assert.deepEqual(await firstTrusted(() => [trusted], KEYS)(hashOf('a'), signal), infoOf('a'));
  await assert.rejects(firstTrusted(() => [trusted], KEYS)(hashOf('b'), signal), { code: 'NARINFO_MISMATCH' });
});

test('returns undefined if nobody has it', async () => {
  assert.equal(await firstTrusted(() => [source('one', () => undefined)], KEYS)(hashOf('a'), signal), undefined);
  assert.equal(await firstTrusted(() => [], KEYS)(hashOf('a'), signal), undefined);
});

test('a lie is skipped, and reported with its source if nobody else has the narinfo', async () => {
  const lies = [infoOf('a'), signed(infoOf('b')), { ...GOOD, narSize: 7 }];
  for (const lie of lies) {
    const one = source('one', () => lie);
    assert.equal(await firstTrusted(() => [one, source('two', () => GOOD)], KEYS)(hashOf('a'), signal), GOOD);
    await assert.rejects(firstTrusted(() => [one, source('two', () => undefined)], KEYS)(hashOf('a'), signal), {
      code: /^NARINFO_/,
      message: /\(from one\)$/,
    });
  }
});

test('a source that is down is still asked, but last', async () => {
  const one = source('one', down);
  const two = source('two', () => (two.asked < 3 ? GOOD : undefined));
  const find = firstTrusted(() => [one, two], KEYS);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.deepEqual([one.asked, two.asked], [1, 2]);
  await assert.rejects(find(hashOf('a'), signal), { code: 'HTTP_STALLED' });
  assert.deepEqual([one.asked, two.asked], [2, 3]);
});

test('a hash map that cannot be reached is asked last, like a cache', async () => {
  const map = source('map', () => {
    throw new NarswarmError('INDEX_UNREACHABLE', 'no hash map from its mirror');
  });
  const find = firstTrusted(() => [map, source('cache', () => GOOD)], KEYS);
  for (let path = 0; path < 3; path++) assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.equal(map.asked, 1);
});

test('an aborted walk ends with the reason of its signal', async () => {
  const stop = new AbortController();
  const reason = new Error('enough');
  const one = source('one', () => {
    stop.abort(reason);
    return down();
  });
  await assert.rejects(firstTrusted(() => [one, source('two', () => GOOD)], KEYS)(hashOf('a'), stop.signal), reason);
});

test('a silent source does not delay the next one, and is asked last from then on', async ({ mock }) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  let hasEnded = false;
  const silent = {
    name: 'silent',
    mayStall: true,
    asked: 0,
    find(_hash: StoreHash, until: AbortSignal): Promise<undefined> {
      this.asked++;
      until.addEventListener('abort', () => (hasEnded = true));
      return new Promise(() => undefined);
    },
  };
  const next = source('next', () => GOOD);
  const find = firstTrusted(() => [silent, next], KEYS);
  const found = find(hashOf('a'), signal);
  mock.timers.tick(1_999);
  assert.equal(next.asked, 0, 'it has its time');
  mock.timers.tick(1);
  assert.equal(await found, GOOD);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.deepEqual([silent.asked, next.asked, hasEnded], [1, 2, true]);
});

test('a source that is found during a walk is used, and waited for only as long as it says', async () => {
  const far = source('far', () => GOOD);
  const silence = new Promise<undefined>(() => undefined);
  const near = { name: 'near', mayStall: true, patienceMs: 1, find: () => silence };
  const sources: NarInfoSource[] = [far];
  const origins = new Map<StoreHash, NarInfoSource>();
  const find = firstTrusted(() => sources, KEYS, origins);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  sources.unshift(near);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a')), far);
});

test('a source that is asked beside the next one does not count as slow', async () => {
  let asked = 0;
  const never = new Promise<undefined>(() => undefined);
  const near: NarInfoSource = {
    name: 'near',
    mayStall: true,
    patienceMs: 0,
    find: () => (asked++ < 1 ? never : Promise.resolve(GOOD)),
  };
  const far = source('far', () => GOOD);
  const origins = new Map<StoreHash, NarInfoSource>();
  const find = firstTrusted(() => [near, far], KEYS, origins);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a')), far);
  assert.equal(await find(hashOf('a'), signal), GOOD);
  assert.equal(origins.get(hashOf('a')), near);
});
