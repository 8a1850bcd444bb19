/** The name of a file, in the narinfos of real caches. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheThatNames, lacksName } from '../../../src/fetch/download/name-in-cache.ts';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { asAnnounced, parseUpstream } from '../../../src/http/upstream.ts';
import { formatNarInfo, type NarInfo } from '../../../src/nix/narinfo.ts';
import type { HeldNars } from '../../../src/serve/held-nars.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import type { Network } from '../../../src/swarm/network.ts';
import { endSoon, madeFile, startMember } from '../../exchange/exchange-fixture.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { startSite } from '../../support/http-site.ts';
import { infoOf } from '../walk/narinfos.ts';

const LIMIT = { timeout: 180_000 };
const PIECE = 256 * 1024;
const NAR = madeFile(3 * PIECE);
const { signal } = new AbortController();

after(endSoon);

/** A NAR whose file a neighbour has named. */
function jobOf(): NarJob {
  const { file: fileHash, bytes } = NAR;
  const info = infoOf('blob', [], { fileHash, fileSize: bytes.length, url: `nar/${fileHash}.nar.xz` });
  const { storePath } = info;
  return { fileHash, sizeBytes: bytes.length, extension: 'xz', info, storePaths: [storePath], torrent: undefined };
}

suite('cacheThatNames', () => {
  const job = jobOf();
  const cases: readonly [string, NarInfo | undefined, boolean][] = [
    ['names the file', job.info, true],
    ['has the same NAR in another file', { ...job.info, fileHash: madeFile(9).file }, false],
    ['names the file for another NAR', { ...job.info, narSize: job.info.narSize + 1 }, false],
    ['does not have the path', undefined, false],
  ];
  for (const [what, own, isNamed] of cases) {
    test(`a cache that ${what} ${isNamed ? 'counts' : 'does not count'}`, async () => {
      await using site = await startSite((_, response) => {
        if (own === undefined) response.writeHead(404);
        response.end(own === undefined ? '' : formatNarInfo(own));
      });
      const upstream = parseUpstream(site.url);
      assert.equal(await cacheThatNames(job, [upstream], site.client, signal), isNamed ? upstream : undefined);
    });
  }

  test('a cache that was found on the network is not asked', async () => {
    await using site = await startSite((_, response) => response.end(formatNarInfo(job.info)));
    const found = asAnnounced(parseUpstream(site.url));
    assert.equal(await cacheThatNames(job, [found], site.client, signal), undefined);
    assert.equal(site.requests.length, 0);
  });

  test('a name is lacking only if parts could be given', () => {
    assert.equal(lacksName(job), true);
    assert.equal(lacksName({ ...job, namedBy: parseUpstream('http://cache.example') }), false);
    assert.equal(lacksName({ ...job, sizeBytes: PIECE }), false);
  });
});

test(
  'parts of a NAR that a neighbour has named are given while they arrive, once the cache names it',
  LIMIT,
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const job = jobOf();
    const given = Promise.withResolvers<string>();
    const site = stack.use(
      await startSite((request, response) => {
        if (request.url?.endsWith('.narinfo') === true) response.end(formatNarInfo(job.info));
        else {
          response.writeHead(200, { 'content-length': NAR.bytes.length });
          response.write(NAR.bytes.subarray(0, 2 * PIECE));
          void given.promise.then(() => response.end(NAR.bytes.subarray(2 * PIECE)));
          void sleep(20_000, undefined, { ref: false }).then(() => given.resolve('nothing'));
        }
      }),
    );
    const store = await FileStore.open(await tempDir(t), { create: true });
    const session = stack.use(await PartialSession.open(store));
    const { members, peers } = stack.use(await startMember());
    const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
    const begin = () => ({ add: () => given.resolve('a part'), end: () => undefined });
    const scheduler = new Scheduler({
      store,
      session,
      network: network as unknown as Network,
      upstreams: [parseUpstream(site.url)],
      http: stack.use(new HttpClient()),
      tell: () => undefined,
      onFetched: () => undefined,
      held: { isShared: async () => true, add: () => undefined, begin } as unknown as HeldNars,
    });
    await scheduler.run([job], signal);
    assert.equal(await given.promise, 'a part');
  },
);
