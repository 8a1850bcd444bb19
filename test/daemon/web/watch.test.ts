import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Watch } from '../../../src/daemon/web/watch.ts';
import { NarswarmError } from '../../../src/errors.ts';
import { emptyStore } from '../../store/store-fixture.ts';
import { newView } from '../../cli/status-page/view-fixture.ts';

const { facts } = newView();

suite('what is shown of a daemon', () => {
  test('no address has a password', async (t) => {
    const store = await emptyStore(t);
    const address = 'https://user:secret@example.org/maps/?xs=urn:btpk:00';
    await using watch = new Watch({
      store,
      facts: () => ({ ...facts, maps: [{ address, edition: null }] }),
      subscriptions: async () => [],
    });
    const view = await watch.view();
    assert.equal(view.facts.maps[0]?.address, 'https://example.org/maps/?xs=urn:btpk:00');
    assert.doesNotMatch(JSON.stringify(view), /secret|user/);
  });

  test('states that cannot be read are a problem, and the rest is shown', async (t) => {
    const store = await emptyStore(t);
    await using watch = new Watch({
      store,
      facts: () => facts,
      subscriptions: () => Promise.reject(new NarswarmError('STORE_CORRUPT', 'not readable')),
    });
    const { problems, subscriptions } = await watch.view();
    assert.deepEqual(problems, [{ kind: 'unreadable', code: 'STORE_CORRUPT' }]);
    assert.deepEqual(subscriptions, []);
  });

  test('what was given to others is recorded once, also by a daemon that ends', async (t) => {
    const store = await emptyStore(t);
    const served = { nars: 1, bytesToMembers: 70, bytesToClients: 5, bytesToNix: 30, bytesOverHttp: 4 };
    const options = { store, facts: () => ({ ...facts, served }), subscriptions: async () => [] };
    await (async () => {
      await using watch = new Watch(options);
      assert.equal((await watch.view()).day.given.sent, 0);
    })();
    await using after = new Watch({ ...options, facts: () => facts });
    assert.deepEqual((await after.view()).day.given, { sent: 75, toNix: 30, overHttp: 4 });
  });
});
