import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { suite, test, type TestContext } from 'node:test';
import { Mirrors, type MirrorLack } from '../../src/daemon/mirrors.ts';
import type { FileHash } from '../../src/nix/brands.ts';
import { generationsToKeep, mirrored } from '../../src/subscription/mirror.ts';
import { parsePublisherAddress } from '../../src/index/address.ts';
import type { Subscription } from '../../src/subscription/subscription.ts';
import { failOnWarning } from '../support/no-warnings.ts';

const ADDRESS = `magnet:?xs=urn:btpk:${'ab'.repeat(32)}`;
const OTHER = `magnet:?xs=urn:btpk:${'cd'.repeat(32)}`;
const named = (name: string, source: string, more: Partial<Subscription> = {}): Subscription => ({
  name,
  source,
  import: false,
  sources: false,
  ready: false,
  publish: false,
  ...more,
});

suite('mirrors', () => {
  test('only a subscription to a whole hash map without import is a mirror', () => {
    assert.equal(mirrored(named('a', ADDRESS))?.publicKeyHex, 'ab'.repeat(32));
    for (const other of [
      named('a', `${ADDRESS}#root`),
      named('a', ADDRESS, { import: true }),
      named('a', '/run/current-system'),
    ])
      assert.equal(mirrored(other), undefined, other.source);
  });

  test('only a mirror under a budget keeps no older generation', () => {
    const configured = [named('a', ADDRESS), named('b', `${ADDRESS}#root`)];
    const kept = (maxBytes: number | undefined): number[] =>
      configured.map(generationsToKeep(2, { configured, maxBytes }));
    assert.deepEqual(
      [kept(1e9), kept(undefined)],
      [
        [0, 2],
        [2, 2],
      ],
    );
  });

  const COMPLETE: MirrorLack = { isComplete: true, nars: new Map() };
  const LACKING: MirrorLack = { isComplete: false, nars: new Map([['file' as FileHash, 1]]) };

  /**
   * Mirrors whose updates are reported one by one.
   *
   * @param lack the result of each update
   */
  const start = (t: TestContext, subscriptions: Subscription[], lack = COMPLETE) => {
    const news = new EventEmitter();
    const held = { is: false, asked: 0 };
    const mirrors = new Mirrors({
      subscriptions: () => {
        news.emit('look');
        return Promise.resolve(subscriptions);
      },
      update: (due) => {
        const names = due.map(({ name }) => name);
        news.emit('update', names);
        return Promise.resolve(new Map(names.map((name) => [name, lack])));
      },
      isHeldElsewhere: (nars) => {
        assert.equal(nars, lack.nars);
        held.asked++;
        news.emit('asked');
        return Promise.resolve(held.is);
      },
      signal: t.signal,
      onWarning: failOnWarning,
    });
    t.after(() => mirrors[Symbol.asyncDispose]());
    const next = async (event: string): Promise<unknown> =>
      (await once(news, event, { signal: AbortSignal.timeout(20_000) }))[0];
    return { mirrors, held, updated: () => next('update'), asked: () => next('asked'), looked: () => next('look') };
  };

  test('each edition of a followed hash map is fetched once, and nothing else', async (t) => {
    const subscriptions = [named('mirror', ADDRESS), named('one', `${ADDRESS}#one`), named('other', OTHER)];
    const { mirrors, updated } = start(t, subscriptions);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    assert.deepEqual(await updated(), ['mirror']);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    mirrors.onEdition(parsePublisherAddress(OTHER), 7);
    assert.deepEqual(await updated(), ['other']);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 2);
    assert.deepEqual(await updated(), ['mirror']);
  });

  test('a subscription that is added later begins with the present edition', async (t) => {
    const subscriptions: Subscription[] = [];
    const { mirrors, updated } = start(t, subscriptions);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    subscriptions.push(named('mirror', ADDRESS));
    assert.deepEqual(await updated(), ['mirror']);
  });

  test('an incomplete mirror is tried again after a while', async (t) => {
    const now = t.mock.method(performance, 'now', () => 0);
    const { mirrors, updated } = start(t, [named('mirror', ADDRESS)], LACKING);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    await updated();
    now.mock.mockImplementation(() => 10 * 60_000 + 1);
    assert.deepEqual(await updated(), ['mirror']);
  });

  test('an incomplete mirror is tried again when a member that appears has what is lacking', async (t) => {
    const now = t.mock.method(performance, 'now', () => 0);
    const { mirrors, held, updated, looked } = start(t, [named('mirror', ADDRESS)], LACKING);
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    await updated();
    now.mock.mockImplementation(() => 6_000);
    for (let looks = 0; looks < 2; looks++) await looked();
    assert.equal(held.asked, 1, 'after an update, members are asked once');
    now.mock.mockImplementation(() => 7_000);
    held.is = true;
    mirrors.onMember();
    // the next look updates it
    assert.deepEqual(await Promise.race([updated(), looked().then(looked).then(looked)]), ['mirror']);
    assert.equal(held.asked, 2);
  });

  test('a member that never delivers what it claims to have is believed less and less often', async (t) => {
    let nowMs = 0;
    t.mock.method(performance, 'now', () => nowMs);
    const { mirrors, held, updated, looked } = start(t, [named('mirror', ADDRESS)], LACKING);
    held.is = true;
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    await updated();
    for (const pauseMs of [5_000, 10_000, 20_000]) {
      nowMs += pauseMs;
      assert.deepEqual(await updated(), ['mirror']);
    }
    const { asked } = held;
    nowMs += 30_000; // the next one is after 40 s
    mirrors.onMember();
    for (let looks = 0; looks < 2; looks++) await looked();
    assert.equal(held.asked, asked);
  });
});
