/** Narinfos from neighbours, over real connections of the exchange on loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NeighbourNarInfos, type NeighbourNarInfosOptions } from '../../../src/fetch/sources/neighbour-narinfos.ts';
import type { StoreHash } from '../../../src/nix/brands.ts';
import { parseStoreHash } from '../../../src/nix/store-path.ts';
import { LEAF, NOTE, readNarInfo, TOP } from '../../nix/fixtures.ts';
import { startMember, type MadeMember } from '../../exchange/exchange-fixture.ts';
import { KEY } from '../../store/store-fixture.ts';

const { signal } = new AbortController();
const [top, leaf, note] = [TOP, LEAF, NOTE].map(parseStoreHash);
assert(top !== undefined && leaf !== undefined && note !== undefined);

/** Makes a member that asks, and neighbours that have these narinfos. */
async function neighbours(
  t: TestContext,
  ...theirs: readonly (readonly string[])[]
): Promise<readonly [MadeMember, ...MadeMember[]]> {
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  const asking = stack.use(await startMember());
  const others: MadeMember[] = [];
  for (const hashes of theirs) {
    const other = stack.use(await startMember());
    for (const hash of hashes) other.offer.narInfos.set(parseStoreHash(hash), readNarInfo(hash));
    const met = once(asking.members, 'member');
    asking.meet(other);
    await met;
    others.push(other);
  }
  return [asking, ...others];
}

type Times = Partial<
  Pick<NeighbourNarInfosOptions, 'patienceMs' | 'waitMs' | 'answerMs' | 'inVainMs' | 'lastingMs' | 'mayAppear'>
>;

/** Asks neighbours once, so that their first moment is over, unless `answerMs` is given. */
async function sourceOf({ members }: MadeMember, times: Times = {}): Promise<NeighbourNarInfos> {
  const given = { waitMs: 10_000, answerMs: 0, patienceMs: 60_000, mayAppear: () => true, ...times };
  const near = new NeighbourNarInfos({ members, keys: [KEY], ...given });
  if (times.answerMs === undefined) await near.sources[0]?.find(note as StoreHash, signal);
  return near;
}

suite('narinfos of neighbours', { timeout: 180_000 }, () => {
  test('paths that neighbours hold between them are found in one question', async (t) => {
    const [asking] = await neighbours(t, [TOP], [LEAF], []);
    const near = await sourceOf(asking);
    const [source] = near.sources;
    assert.ok(source !== undefined);
    const found = await Promise.all([top, leaf, note].map((hash) => source.find(hash, signal)));
    assert.deepEqual(
      found.map((info) => info?.storePath.slice(11, 43)),
      [TOP, LEAF, undefined],
    );
  });

  test('garbage, narinfos of another path and untrusted ones count as absent', async (t) => {
    const [asking, liar] = await neighbours(t, []);
    liar?.offer.narInfos.set(top, 'hello');
    liar?.offer.narInfos.set(leaf, readNarInfo(NOTE));
    liar?.offer.narInfos.set(note, readNarInfo(NOTE).replaceAll(/^(?:Sig|CA): .*\n/gm, ''));
    const [source] = (await sourceOf(asking)).sources;
    for (const hash of [top, leaf, note]) assert.equal(await source?.find(hash, signal), undefined);
  });

  test('a URL that leads away from the asked cache is replaced', async (t) => {
    const [asking, liar] = await neighbours(t, []);
    const away = readNarInfo(LEAF).replace(/^URL: .*$/m, 'URL: http://127.0.0.1:1/admin');
    liar?.offer.narInfos.set(leaf, away);
    liar?.offer.narInfos.set(
      top,
      readNarInfo(TOP)
        .replace(/^URL: .*$/m, 'URL: ../admin')
        .replace(/^FileHash: .*\n/m, ''),
    );
    const [source] = (await sourceOf(asking)).sources;
    const found = await source?.find(leaf, signal);
    assert.equal(found?.url, `nar/${found?.fileHash}.nar.xz`);
    assert.equal(await source?.find(top, signal), undefined, 'no file is named');
  });

  test('a silent neighbour delays nobody for long, and is left alone', async (t) => {
    const [asking, silent] = await neighbours(t, []);
    assert.ok(silent !== undefined);
    silent.offer.narInfo = () => new Promise(() => undefined);
    const near = await sourceOf(asking, { patienceMs: 50 });
    const [source] = near.sources;
    for (const hash of [top, leaf]) assert.equal(await source?.find(hash, signal), undefined);
    assert.deepEqual(near.sources, []);
  });

  test('neighbours that keep having nothing are not waited for, until they have something', async (t) => {
    const [asking, slow] = await neighbours(t, []);
    assert.ok(slow !== undefined);
    const [source] = (await sourceOf(asking, { inVainMs: 20, answerMs: 1 })).sources;
    assert.ok(source?.patienceMs !== 0, 'they are waited for at first');
    let text: string | undefined;
    slow.offer.narInfo = async () => {
      await sleep(30);
      return text;
    };
    assert.equal(await source?.find(top, signal), undefined);
    assert.equal(source?.patienceMs, 0);
    text = readNarInfo(TOP);
    assert.equal((await source?.find(top, signal))?.storePath.includes(TOP), true);
    assert.notEqual(source?.patienceMs, 0);
  });

  test('a path that nobody else has waits for the first neighbour, for a limited time', async (t) => {
    const [asking] = await neighbours(t);
    assert.deepEqual((await sourceOf(asking)).sources, []);
    assert.equal(await (await sourceOf(asking, { waitMs: 1 })).awaited.find(top, signal), undefined);
    const waiting = (await sourceOf(asking)).awaited.find(top, signal);
    await using late = await startMember();
    late.offer.narInfos.set(top, readNarInfo(TOP));
    asking.meet(late);
    assert.equal((await waiting)?.storePath.includes(TOP), true);
  });

  test('without a cache, a neighbour that was silent or still checks a path is asked again', async (t) => {
    const [asking, busy] = await neighbours(t, []);
    assert.ok(busy !== undefined);
    busy.offer.narInfo = () => new Promise(() => undefined);
    const near = await sourceOf(asking, { patienceMs: 500, lastingMs: 60_000 });
    const [source] = near.sources;
    for (const hash of [top, leaf]) assert.equal(await source?.find(hash, signal), undefined);
    assert.deepEqual(near.sources, [], 'it was silent');
    let questions = 0;
    busy.offer.narInfo = () => Promise.resolve(++questions < 3 ? undefined : readNarInfo(TOP));
    assert.equal((await near.lasting.find(top, signal))?.storePath.includes(TOP), true);
    assert.ok(questions >= 3); // more if an answer was late
  });

  test('without a cache, a neighbour that comes late is waited for', async (t) => {
    const [asking] = await neighbours(t);
    await using late = await startMember();
    late.offer.narInfos.set(top, readNarInfo(TOP));
    const near = await sourceOf(asking, { waitMs: 1 });
    const found = near.lasting.find(top, signal);
    assert.equal(await near.awaited.find(leaf, signal), undefined, 'with a cache, nobody waits for long');
    asking.meet(late);
    assert.equal((await found)?.storePath.includes(TOP), true);
  });

  test('without a cache, a path that no neighbour has is given up after a time', async (t) => {
    const [asking] = await neighbours(t, [TOP]);
    const near = await sourceOf(asking, { lastingMs: 10 });
    assert.equal(await near.lasting.find(leaf, signal), undefined);
  });

  test('without a cache and without a network, neighbours are not waited for', async (t) => {
    const [asking] = await neighbours(t);
    const alone = await sourceOf(asking, { waitMs: 1, lastingMs: 4_000, mayAppear: () => false });
    const waiting = await sourceOf(asking, { waitMs: 1, lastingMs: 4_000 });
    const ends: string[] = [];
    await Promise.all([
      waiting.lasting.find(leaf, signal).then(() => ends.push('waiting')),
      alone.lasting.find(leaf, signal).then(() => ends.push('alone')),
    ]);
    assert.deepEqual(ends, ['alone', 'waiting']);
  });

  test('a neighbour that answers the announcement at once is asked before anybody else', async (t) => {
    const [asking] = await neighbours(t);
    await using late = await startMember();
    late.offer.narInfos.set(top, readNarInfo(TOP));
    const near = await sourceOf(asking, { answerMs: 10_000 });
    const [source] = near.sources;
    const found = source?.find(top, signal);
    asking.meet(late);
    assert.equal((await found)?.storePath.includes(TOP), true);
  });

  test('if no neighbour answers at once, none is waited for', async (t) => {
    const [asking] = await neighbours(t);
    const near = await sourceOf(asking, { answerMs: 1 });
    const [source] = near.sources;
    assert.equal(await source?.find(top, signal), undefined);
    assert.deepEqual(near.sources, []);
  });

  test('members beyond the local network are not asked', async (t) => {
    const stack = new AsyncDisposableStack();
    t.after(() => stack.disposeAsync());
    const asking = stack.use(await startMember({ isNear: false }));
    const far = stack.use(await startMember());
    far.offer.narInfos.set(top, readNarInfo(TOP));
    const met = once(asking.members, 'member');
    asking.meet(far);
    await met;
    const near = await sourceOf(asking, { waitMs: 1 });
    assert.deepEqual(near.sources, []);
    assert.equal(await near.awaited.find(top, signal), undefined);
  });
});
