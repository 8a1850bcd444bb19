import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { suite, test, type TestContext } from 'node:test';
import { Mirrors } from '../../src/daemon/mirrors.ts';
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

  /** Mirrors whose updates are reported one by one; `complete` lists those that succeed. */
  const start = (t: TestContext, subscriptions: Subscription[], complete = new Set(['mirror'])) => {
    const news = new EventEmitter();
    const mirrors = new Mirrors({
      subscriptions: () => Promise.resolve(subscriptions),
      update: (due) => {
        news.emit(
          'update',
          due.map(({ name }) => name),
        );
        return Promise.resolve(complete);
      },
      signal: t.signal,
      onWarning: failOnWarning,
    });
    t.after(() => mirrors[Symbol.asyncDispose]());
    const updated = async (): Promise<unknown> =>
      (await once(news, 'update', { signal: AbortSignal.timeout(20_000) }))[0];
    return { mirrors, updated };
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
    const { mirrors, updated } = start(t, [named('mirror', ADDRESS)], new Set());
    mirrors.onEdition(parsePublisherAddress(ADDRESS), 1);
    await updated();
    now.mock.mockImplementation(() => 10 * 60_000 + 1);
    assert.deepEqual(await updated(), ['mirror']);
  });
});
