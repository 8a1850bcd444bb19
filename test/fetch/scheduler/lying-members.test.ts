/** Members send wrong bytes of NARs that nobody knows the pieces of, over real sockets. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import { after, suite, test, type TestContext } from 'node:test';
import type { FetchEvent } from '../../../src/fetch/events.ts';
import { Scheduler } from '../../../src/fetch/scheduler/scheduler.ts';
import { ATTEMPTS } from '../../../src/fetch/scheduler/task.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { asAnnounced, parseUpstream, type Upstream } from '../../../src/http/upstream.ts';
import type { HeldNars } from '../../../src/serve/held-nars.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import type { Network } from '../../../src/swarm/network.ts';
import { endSoon, madeFile, startMember, type MadeFile, type MadeMember } from '../../exchange/exchange-fixture.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { startSite, type Site } from '../../support/http-site.ts';
import { infoOf } from '../walk/narinfos.ts';

/** More than a NAR has attempts. */
const LIARS = 2 * ATTEMPTS;
const LIMIT = { timeout: 180_000 };
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

/** Fetches NARs, and checks them. Returns the members that were found to lie. */
async function fetchNars(
  t: TestContext,
  { members, peers }: MadeMember,
  upstreams: readonly Upstream[],
  { files = [NAR], tell = () => undefined }: { files?: readonly MadeFile[]; tell?: (event: FetchEvent) => void } = {},
): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const found: string[] = [];
  const store = await FileStore.open(await tempDir(t), { create: true });
  const session = await PartialSession.open(store);
  stack.defer(() => session[Symbol.asyncDispose]());
  const jobs = files.map(({ file: fileHash, bytes }, index) => {
    const info = infoOf(`blob-${index}`, [], { fileHash, fileSize: bytes.length, url: `nar/${fileHash}.nar.xz` });
    const { storePath } = info;
    return { fileHash, sizeBytes: bytes.length, extension: 'xz', info, storePaths: [storePath], torrent: undefined };
  });
  const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
  const held = {
    isShared: async () => true,
    add: () => undefined,
    begin: () => ({ add: () => undefined, end: () => undefined }),
  };
  const scheduler = new Scheduler({
    store,
    session,
    network: network as unknown as Network,
    upstreams,
    http: stack.use(new HttpClient()),
    tell: (event) => {
      tell(event);
      if (event.type === 'warning' && event.warning.kind === 'lying-peer') found.push(event.warning.peer);
    },
    onFetched: () => undefined,
    held: held as unknown as HeldNars,
  });
  await scheduler.run(jobs, new AbortController().signal);
  for (const [index, job] of jobs.entries())
    assert.ok(files[index]?.bytes.equals(await readFile(scheduler.pathOf(job))));
  return found;
}

test('an upstream alone sends a NAR of which members have twice sent wrong bytes', LIMIT, async (t) => {
  await using stack = new AsyncDisposableStack();
  const { client, liars } = await amongLiars(stack);
  const site = stack.use(await startSite((_, response) => response.end(NAR.bytes)));
  await fetchNars(t, client, [parseUpstream(site.url)]);
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
  await fetchNars(t, client, []);
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
    await fetchNars(t, client, [parseUpstream(site.url)]);
    assert.equal(asked, 2);
    assert.equal(liar.uploadedBytes, 0);
  },
);

suite('a NAR of which a liar sent the first MiB, and an upstream the rest', () => {
  const LIAR = '127.0.0.2';
  const HONEST = '127.0.0.3';
  /** The bytes of the liar: whole ranges. */
  const WRONG_BYTES = 1 << 20;
  /** The upstream's bytes: whole blocks, and a rest that no other source takes over. */
  const REST_BYTES = (1 << 20) + 10_000;
  const MIXED = madeFile(WRONG_BYTES + REST_BYTES, 2);
  const OTHER = madeFile(300_000, 3);

  /**
   * Starts an upstream that has the NAR.
   *
   * @param beforeEnd is waited for before the end of each answer
   * @param answers number of answers after which it no longer has it
   */
  async function startUpstream({ beforeEnd = Promise.resolve(), answers = Infinity, lies = false } = {}): Promise<
    Site & { sentBytes: number }
  > {
    let answered = 0;
    const site = await startSite(({ url = '', headers }, response) => {
      if (!url.includes(MIXED.file) || answered++ >= answers) {
        response.writeHead(404).end();
        return;
      }
      const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      const to = Number(/-(\d+)$/.exec(headers.range ?? '')?.[1] ?? MIXED.bytes.length - 1) + 1;
      const body = Buffer.from(MIXED.bytes.subarray(from, to));
      if (lies) body[0]! ^= 1;
      counted.sentBytes += body.length;
      const range = `bytes ${from}-${to - 1}/${MIXED.bytes.length}`;
      response.writeHead(206, { 'content-range': range, 'content-length': body.length });
      response.write(body.subarray(0, -10_000));
      void beforeEnd.then(() => response.end(body.subarray(-10_000)));
    });
    const counted = Object.assign(site, { sentBytes: 0 });
    return counted;
  }

  /** Starts the liar. It falls silent after its part. */
  async function startLiar(): Promise<MadeMember> {
    const liar = await startMember({ files: [MIXED], host: LIAR });
    liar.offer.lies = true;
    liar.offer.stallsAt = (_, to) => to > WRONG_BYTES;
    return liar;
  }

  for (const isAnnounced of [false, true]) {
    const what = isAnnounced ? 'all of it comes again from one that nobody has configured' : 'each byte comes once';
    test(`if no other source has it, ${what}`, LIMIT, async (t) => {
      await using stack = new AsyncDisposableStack();
      const client = stack.use(await startMember());
      const liar = stack.use(await startLiar());
      const site = stack.use(await startUpstream());
      const upstream = parseUpstream(site.url);
      client.find(liar, LIAR);
      while (client.members.open.size === 0) await new Promise(setImmediate);
      const upstreams = [isAnnounced ? asAnnounced(upstream) : upstream];
      const found = await fetchNars(t, client, upstreams, { files: [MIXED] });
      assert.deepEqual([found, liar.uploadedBytes], [[`${LIAR}:${liar.port}`], WRONG_BYTES]);
      assert.equal(site.sentBytes, MIXED.bytes.length + (isAnnounced ? REST_BYTES : 0));
    });
  }

  test('is completed by any member if the upstream then fails', LIMIT, async (t) => {
    await using stack = new AsyncDisposableStack();
    const client = stack.use(await startMember());
    const liar = stack.use(await startLiar());
    const honest = stack.use(await startMember({ host: HONEST }));
    const site = stack.use(await startUpstream({ answers: 1 }));
    client.find(liar, LIAR);
    client.find(honest, HONEST);
    while (client.members.open.size < 2) await new Promise(setImmediate);
    await fetchNars(t, client, [parseUpstream(site.url)], {
      files: [MIXED],
      tell: (event) => {
        if (event.type === 'warning' && event.warning.kind === 'peers-again') honest.offer.add(MIXED);
      },
    });
    assert.deepEqual([site.sentBytes, honest.uploadedBytes], [REST_BYTES, WRONG_BYTES]);
  });

  test('is completed by members if the upstream is the liar', LIMIT, async (t) => {
    await using stack = new AsyncDisposableStack();
    const client = stack.use(await startMember());
    const first = stack.use(await startLiar());
    first.offer.lies = false;
    const second = stack.use(await startMember({ files: [OTHER], host: HONEST }));
    const site = stack.use(await startUpstream({ lies: true }));
    client.find(first, LIAR);
    client.find(second, HONEST);
    while (client.members.open.size < 2) await new Promise(setImmediate);
    let wrong = 0;
    const found = await fetchNars(t, client, [parseUpstream(site.url)], {
      files: [MIXED, OTHER],
      tell: (event) => {
        if (event.type === 'warning' && event.warning.kind === 'fetched-again' && ++wrong === 2)
          second.offer.add(MIXED);
      },
    });
    assert.deepEqual([found, first.uploadedBytes], [[], WRONG_BYTES]);
    assert.ok(second.uploadedBytes >= OTHER.bytes.length + MIXED.bytes.length);
  });

  test('is completed by a member that has given right bytes, and not by the liar, which is found', LIMIT, async (t) => {
    await using stack = new AsyncDisposableStack();
    const client = stack.use(await startMember());
    const liar = stack.use(await startLiar());
    const honest = stack.use(await startMember({ files: [OTHER], host: HONEST }));
    const othersHave = Promise.withResolvers<void>();
    const site = stack.use(await startUpstream({ beforeEnd: othersHave.promise }));
    client.find(liar, LIAR);
    client.find(honest, HONEST);
    while (client.members.open.size < 2) await new Promise(setImmediate);
    const fetched = fetchNars(t, client, [parseUpstream(site.url)], { files: [MIXED, OTHER] });
    while (site.sentBytes === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const again = stack.use(await startMember({ files: [MIXED], host: LIAR }));
    again.offer.lies = true;
    client.find(again, LIAR);
    honest.offer.add(MIXED);
    const haveIt = (): number => [...client.members.open].filter((one) => one.has(MIXED.file) === 'whole').length;
    while (haveIt() < 3) await new Promise(setImmediate);
    othersHave.resolve();
    const found = await fetched;
    assert.deepEqual([liar.uploadedBytes, again.uploadedBytes], [WRONG_BYTES, 0]);
    assert.equal(site.sentBytes, REST_BYTES);
    assert.deepEqual(found, [`${LIAR}:${liar.port}`]);
  });
});
