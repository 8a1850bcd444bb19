/** A cache that sends wrong bytes of every NAR comes before a right one, over real sockets. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { asAnnounced, parseUpstream, type Upstream } from '../../../src/http/upstream.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import { madeFile } from '../../exchange/exchange-fixture.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { startSite } from '../../support/http-site.ts';
import { infoOf } from '../walk/narinfos.ts';

const NARS = 60;
/** Generous limit on the NARs that are on their way when the first lie is found. */
const AT_ONCE = 30;

/** Fetches from the liar and from the right one. Returns the number of requests at the liar. */
async function requestsAtLiar(t: TestContext, asConfigured: (upstream: Upstream) => Upstream): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const files = Array.from({ length: NARS }, (_, index) => madeFile(100_000, index + 1));
  let asked = 0;
  const serve = async (isLiar: boolean): Promise<Upstream> => {
    const site = await startSite((request, response) => {
      const found = files.find(({ file }) => request.url?.includes(file));
      if (found === undefined) return void response.writeHead(404).end();
      const bytes = Buffer.from(found.bytes);
      if (isLiar) {
        asked++;
        bytes.writeUInt8(bytes.readUInt8(5) ^ 1, 5);
      }
      return void response.end(bytes);
    });
    stack.use(site);
    return parseUpstream(site.url);
  };
  const upstreams = [asConfigured(await serve(true)), await serve(false)];
  const store = await FileStore.open(await tempDir(t), { create: true });
  const session = await PartialSession.open(store);
  stack.defer(() => session[Symbol.asyncDispose]());
  const http = stack.use(new HttpClient());
  const jobs = files.map(({ file: fileHash, bytes }, index) => {
    const info = infoOf(`blob-${index}`, [], { fileHash, fileSize: bytes.length, url: `nar/${fileHash}.nar.xz` });
    const { storePath } = info;
    return { fileHash, sizeBytes: bytes.length, extension: 'xz', info, storePaths: [storePath], torrent: undefined };
  });
  const fetched: FetchEvent[] = [];
  const scheduler = new Scheduler({
    store,
    session,
    network: undefined,
    upstreams,
    http,
    tell: (event) => void (event.type === 'nar-fetched' && fetched.push(event)),
    onFetched: () => undefined,
  });
  await scheduler.run(jobs, new AbortController().signal);
  assert.equal(fetched.length, NARS);
  return asked;
}

test('an announced cache is asked last after its first lie', { timeout: 180_000 }, async (t) => {
  const asked = await requestsAtLiar(t, asAnnounced);
  assert.ok(asked > 0 && asked <= AT_ONCE, `${asked} requests`);
});

test('a configured cache is asked last after its second lie', { timeout: 180_000 }, async (t) => {
  const asked = await requestsAtLiar(t, (upstream) => upstream);
  assert.ok(asked > 0 && asked <= AT_ONCE, `${asked} requests`);
});
