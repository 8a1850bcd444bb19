/** More members than a NAR has attempts send wrong bytes of it, over real sockets. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { existsSync } from 'node:fs';
import { after, test, type TestContext } from 'node:test';
import { Scheduler } from '../../src/fetch/scheduler.ts';
import { ATTEMPTS } from '../../src/fetch/task.ts';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream, type Upstream } from '../../src/http/upstream.ts';
import type { HeldNars } from '../../src/serve/held-nars.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialSession } from '../../src/store/session.ts';
import type { Network } from '../../src/swarm/network.ts';
import { endSoon, madeFile, startMember, type MadeMember } from '../exchange/exchange-fixture.ts';
import { tempDir } from '../store/store-fixture.ts';
import { startSite } from '../support/http-site.ts';
import { infoOf } from './narinfos.ts';

const LIARS = 2 * ATTEMPTS;
const LIMIT = { timeout: 60_000 };
/** Several ranges, so that several liars send parts of it. */
const NAR = madeFile(2_000_000);

after(endSoon);

/** Starts liars that say they have the NAR, and a client that has met them. */
async function amongLiars(stack: AsyncDisposableStack): Promise<{ client: MadeMember; liars: MadeMember[] }> {
  const client = stack.use(await startMember());
  const liars: MadeMember[] = [];
  for (let count = 0; count < LIARS; count++) {
    const liar = stack.use(await startMember({ files: [NAR] }));
    liar.offer.lies = true;
    client.meet(liar);
    liars.push(liar);
  }
  while (client.members.open.size < LIARS) await new Promise((resolve) => client.members.once('member', resolve));
  return { client, liars };
}

async function fetchNar(t: TestContext, { members, peers }: MadeMember, upstreams: readonly Upstream[]): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const store = await FileStore.open(await tempDir(t), { create: true });
  const session = await PartialSession.open(store);
  stack.defer(() => session[Symbol.asyncDispose]());
  const { file: fileHash, bytes } = NAR;
  const info = infoOf('blob', [], { fileHash, fileSize: bytes.length, url: `nar/${fileHash}.nar.xz` });
  const job = {
    fileHash,
    sizeBytes: bytes.length,
    extension: 'xz',
    info,
    storePaths: [info.storePath],
    torrent: undefined,
  };
  const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [] };
  const held = { isShared: async () => true, begin: () => ({ add: () => undefined, end: () => undefined }) };
  const scheduler = new Scheduler({
    store,
    session,
    network: network as unknown as Network,
    upstreams,
    http: stack.use(new HttpClient()),
    tell: () => undefined,
    onFetched: () => undefined,
    held: held as unknown as HeldNars,
  });
  await scheduler.run([job], new AbortController().signal);
  assert.ok(existsSync(scheduler.pathOf(job)));
}

test('an upstream alone sends a NAR of which members have twice sent wrong bytes', LIMIT, async (t) => {
  await using stack = new AsyncDisposableStack();
  const { client, liars } = await amongLiars(stack);
  const site = stack.use(await startSite((_, response) => response.end(NAR.bytes)));
  await fetchNar(t, client, [parseUpstream(site.url)]);
  const sentBytes = liars.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0);
  assert.ok(sentBytes < 3 * NAR.bytes.length, `${sentBytes} wrong bytes`);
});

test('without an upstream, an honest member is found among any number of liars', LIMIT, async (t) => {
  await using stack = new AsyncDisposableStack();
  const { client } = await amongLiars(stack);
  const honest = stack.use(await startMember());
  client.meet(honest);
  client.members.on('gone', () => {
    if (client.members.open.size === 1) honest.offer.add(NAR); // all liars are banned
  });
  await fetchNar(t, client, []);
});

test(
  'a NAR that a neighbour only claims to be fetching comes from the upstream that it was left by',
  LIMIT,
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const client = stack.use(await startMember());
    const liar = stack.use(await startMember());
    let asked = 0;
    const site = stack.use(
      await startSite((request, response) => {
        if (request.url?.startsWith('/nar/') !== true) response.writeHead(404).end();
        else if (++asked > 1) response.end(NAR.bytes); // the first request is silent until it is left
      }),
    );
    client.meet(liar);
    let heldBytes = NAR.bytes.length / 2;
    const lying = setInterval(() => {
      if (asked > 0) liar.members.tellFetching([{ file: NAR.file, heldBytes: heldBytes++ }]);
    }, 200);
    stack.defer(() => clearInterval(lying));
    await fetchNar(t, client, [parseUpstream(site.url)]);
    assert.equal(asked, 2);
    assert.equal(liar.uploadedBytes, 0);
  },
);
