/** Lanes wait at first for what members have, and no longer than until they have said it. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import type { HeldNars } from '../../../src/serve/held-nars.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import type { Network } from '../../../src/swarm/network.ts';
import { endSoon, startMember } from '../../exchange/exchange-fixture.ts';
import { startSite } from '../../support/http-site.ts';
import { makeCachedNar } from './cached-nar.ts';

after(endSoon);

test('an upstream begins as soon as members have said that they lack the NAR', { timeout: 60_000 }, async (t) => {
  const { dir, bytes, job } = await makeCachedNar(t, 5_000);
  await using stack = new AsyncDisposableStack();
  const [client, other] = [stack.use(await startMember()), stack.use(await startMember())];
  client.meet(other);
  while (client.members.open.size === 0) await new Promise((resolve) => client.members.once('member', resolve));
  const site = stack.use(await startSite((_, response) => response.end(bytes)));
  const store = await FileStore.open(`${dir}/store`, { create: true });
  const session = await PartialSession.open(store);
  stack.defer(() => session[Symbol.asyncDispose]());
  const { members, swarm } = { members: client.members, swarm: { peers: client.peers } };
  const network = { members, swarm, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
  const scheduler = new Scheduler({
    store,
    session,
    network: network as unknown as Network,
    upstreams: [parseUpstream(site.url)],
    http: stack.use(new HttpClient()),
    tell: () => undefined,
    onFetched: () => undefined,
    held: { isShared: async () => true, add: () => undefined } as unknown as HeldNars,
  });
  t.mock.timers.enable({ apis: ['setInterval'] }); // nothing looks again later
  await scheduler.run([job], AbortSignal.timeout(20_000));
  assert.ok(bytes.equals(await readFile(scheduler.pathOf(job))));
});
