/** NARs are fetched from caches while the walk that finds them still goes on. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HeadStart, type HeadStartOptions } from '../../../src/fetch/download/head-start.ts';
import type { NarJob } from '../../../src/fetch/plan/job.ts';
import { newJob } from '../../../src/fetch/plan/job.ts';
import { namedFile } from '../../../src/fetch/plan/named-file.ts';
import { runFetch, type RunFetchResult } from '../../../src/fetch/run-fetch.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import type { HeldNar, HeldNars } from '../../../src/serve/held-nars.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { PartialSession } from '../../../src/store/session.ts';
import type { Network, NetworkOptions } from '../../../src/swarm/network.ts';
import { startMember, type MadeMember } from '../../exchange/exchange-fixture.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { Lab } from '../../support/lab.ts';
import { failOnWarning } from '../../support/no-warnings.ts';
import { WrittenCache, type WrittenPath } from '../../support/written-cache.ts';

const LIMIT = { timeout: 180_000 };
/** Large NARs that are requested at the same time. */
const SLOTS = 8;
/** The same once they are wanted in an order: these have more than 1 MiB. */
const ORDERED = 4;
const noSignal = new AbortController().signal;

/** A cache whose last narinfo is answered only once a test lets it. */
interface Scene extends AsyncDisposable {
  readonly lab: Lab;
  readonly written: WrittenCache;
  readonly server: HttpCache;
  readonly root: WrittenPath;
  readonly large: WrittenPath;
  readonly leaf: WrittenPath;
  /** Lets the walk end. */
  readonly release: () => void;
}

/** @param leafContents default: other ones than those of the root */
async function setScene({ leafContents }: { readonly leafContents?: string } = {}): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await Lab.open());
  const written = await WrittenCache.create(await lab.folder('cache'), 'walk-1');
  const leaf = await written.add('leaf', { contents: leafContents ?? 'leaf' });
  const large = await written.add('large', { contents: randomBytes(1_200_000).toString('hex') });
  const root = await written.add('root', { contents: 'root', references: [leaf.baseName, large.baseName] });
  const server = stack.use(await startHttpCache(written.dir));
  const gate = Promise.withResolvers<void>();
  server.faults = [{ kind: 'hold', match: new RegExp(narInfoOf(leaf)), until: gate.promise }];
  const parts = { lab, written, server, root, large, leaf, release: gate.resolve };
  const moved = stack.move();
  return { ...parts, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

function narInfoOf({ baseName }: WrittenPath): string {
  return `/${baseName.slice(0, 32)}.narinfo`;
}

function fetchFrom(
  { server, written, root }: Pick<Scene, 'server' | 'written' | 'root'>,
  storeDir: string,
  options: { readonly keepGoing?: boolean; readonly signal?: AbortSignal; readonly network?: NetworkOptions } = {},
): Promise<RunFetchResult> {
  return runFetch({
    roots: [root.info.storePath],
    publishers: [],
    upstreams: [parseUpstream(server.url)],
    keys: [parsePublicKey(written.publicKey)],
    trustedPublicKeys: [],
    copy: false,
    storeDir,
    network: undefined,
    seedForMs: 0,
    publisherTimeoutMs: 1_000,
    signal: noSignal,
    onWarning: failOnWarning,
    ...options,
  });
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(10);
}

function requestsFor({ server }: Pick<Scene, 'server'>, { info }: WrittenPath): number {
  return server.requests.filter(({ url }) => url === `/${info.url}`).length;
}

async function holdsNar(storeDir: string, { info }: WrittenPath): Promise<boolean> {
  const names = await readdir(join(storeDir, 'nar')).catch((): string[] => []);
  return names.includes(`${info.fileHash}.nar.xz`);
}

test('a small NAR comes while the walk goes on, a large one after it, and each once', LIMIT, async () => {
  await using scene = await setScene();
  const { root, large, leaf, lab, server } = scene;
  const storeDir = await lab.folder('store');
  const network = { scope: 'lan', listen: '127.0.0.1', dht: false, lan: true, peers: [] } as const;
  const fetching = fetchFrom(scene, storeDir, { network });
  await until(() => holdsNar(storeDir, root));
  assert.equal(requestsFor(scene, large), 0);
  scene.release();
  const { closure, plan, progress } = await fetching;
  assert.equal(closure.size, 3);
  assert.deepEqual(
    [root, large, leaf].map((path) => requestsFor(scene, path)),
    [1, 1, 1],
  );
  const bytes = [root, large, leaf].reduce((sum, { file }) => sum + file.length, 0);
  assert.deepEqual([plan.jobs.length, plan.jobBytes], [3, bytes]);
  assert.deepEqual(
    [progress.totalNars, progress.doneNars, progress.totalBytes, progress.receivedBytes],
    [3, 3, bytes, bytes],
  );
  const store = await FileStore.open(storeDir, { create: false });
  assert.equal((await store.listStoreHashes()).length, 3);
  server.resetCounts();
  await fetchFrom(scene, storeDir);
  assert.equal(server.bytesSent(), 0);
});

test('if the walk fails, the NARs that have come stay for the next run', LIMIT, async () => {
  await using scene = await setScene();
  const { root, leaf, lab, written } = scene;
  const storeDir = await lab.folder('store');
  await rm(join(written.dir, narInfoOf(leaf)));
  const fetching = fetchFrom(scene, storeDir);
  fetching.catch(() => undefined);
  await until(() => holdsNar(storeDir, root));
  scene.release();
  await assert.rejects(fetching, { code: 'NARINFO_MISSING' });
  assert.deepEqual(await (await FileStore.open(storeDir, { create: false })).listStoreHashes(), []);
  await written.add('leaf', { contents: 'leaf' });
  assert.equal((await fetchFrom(scene, storeDir)).closure.size, 3);
  assert.equal(requestsFor(scene, root), 1);
});

test('an interrupted walk keeps what has come', LIMIT, async () => {
  await using scene = await setScene();
  const { root, lab } = scene;
  const storeDir = await lab.folder('store');
  const stop = new AbortController();
  const fetching = fetchFrom(scene, storeDir, { signal: stop.signal });
  fetching.catch(() => undefined);
  await until(() => holdsNar(storeDir, root));
  stop.abort(new Error('Ctrl-C'));
  await assert.rejects(fetching, /Ctrl-C/);
  scene.release();
  assert.equal((await fetchFrom(scene, storeDir)).closure.size, 3);
  assert.equal(requestsFor(scene, root), 1);
});

test('a path that is found later joins the NAR of its file', LIMIT, async () => {
  await using scene = await setScene({ leafContents: 'root' });
  const { root, leaf, lab } = scene;
  assert.equal(leaf.info.fileHash, root.info.fileHash);
  const storeDir = await lab.folder('store');
  const fetching = fetchFrom(scene, storeDir);
  await until(() => holdsNar(storeDir, root));
  scene.release();
  const { plan } = await fetching;
  assert.deepEqual(
    plan.jobs.map(({ storePaths }) => storePaths.length).toSorted((a, b) => a - b),
    [1, 2],
  );
  assert.equal(requestsFor(scene, root), 1);
  const store = await FileStore.open(storeDir, { create: false });
  assert.equal((await store.listStoreHashes()).length, 3);
});

test(
  'with keepGoing, complete paths come while the walk goes on, and those that lack something do not',
  LIMIT,
  async () => {
    await using scene = await setScene();
    const { leaf, large, lab, written, server } = scene;
    await rm(join(written.dir, narInfoOf(leaf)));
    const small = await written.add('small', { contents: 'small' });
    const whole = await written.add('whole', { references: [small.baseName] });
    const root = await written.add('top', { references: [leaf, large, whole].map(({ baseName }) => baseName) });
    const storeDir = await lab.folder('store');
    const fetching = fetchFrom({ server, written, root }, storeDir, { keepGoing: true });
    await until(async () => (await holdsNar(storeDir, small)) && (await holdsNar(storeDir, whole)));
    scene.release();
    const { missing, plan } = await fetching;
    assert.deepEqual(
      missing.map(({ path }) => path),
      [leaf.info.storePath],
    );
    assert.deepEqual(
      new Set(plan.jobs.map(({ info }) => info.storePath)),
      new Set([small, whole, large].map(({ info }) => info.storePath)),
    );
    assert.deepEqual(
      [small, whole, large, root].map((path) => requestsFor(scene, path)),
      [1, 1, 1, 0],
    );
  },
);

/** Opens a head start over its own store. */
async function opened(
  lab: Lab,
  stack: AsyncDisposableStack,
  options: Pick<HeadStartOptions, 'caches'> & Partial<HeadStartOptions>,
): Promise<HeadStart> {
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  const session = stack.use(await PartialSession.open(store));
  const http = stack.use(new HttpClient());
  const common = { store, session, http, network: undefined, target: undefined, signal: noSignal };
  const quiet = { attach: async () => undefined, tell: () => undefined };
  return stack.use(new HeadStart({ ...common, ...quiet, ...options }));
}

test('a path that the target has is not fetched', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { server, root, leaf } = scene;
  const upstream = parseUpstream(server.url);
  const asked: string[] = [];
  const headStart = await opened(scene.lab, stack, {
    caches: () => [upstream],
    target: {
      invalidPaths: (paths) => {
        asked.push(...paths);
        return Promise.resolve(new Set([leaf.info.storePath]));
      },
    },
  });
  headStart.take(root.info, upstream);
  headStart.take(leaf.info, upstream);
  await until(() => headStart.jobs.size > 0);
  headStart.end();
  await headStart.finish([], { onFetched: () => undefined });
  assert.deepEqual(asked, [root.info.storePath, leaf.info.storePath]);
  assert.deepEqual(
    [root, leaf].map((path) => requestsFor(scene, path)),
    [0, 1],
  );
});

test('a NAR that a patch may make is left to the plan', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { server, root, leaf } = scene;
  const upstream = parseUpstream(server.url);
  const headStart = await opened(scene.lab, stack, {
    caches: () => [upstream],
    mayPatch: ({ storePath }) => storePath === root.info.storePath,
  });
  headStart.take(root.info, upstream);
  headStart.take(leaf.info, upstream);
  await until(() => headStart.jobs.size > 0);
  headStart.end();
  await headStart.finish([], { onFetched: () => undefined });
  assert.deepEqual([...headStart.jobs.keys()], [leaf.info.fileHash]);
  assert.equal(requestsFor(scene, root), 0);
});

test('while hash maps are late, a NAR that a patch may make is left to the plan', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { root, leaf, server } = scene;
  const upstream = parseUpstream(server.url);
  const asked: NarJob[] = [];
  let late: (() => Promise<void>) | undefined = () => Promise.resolve();
  const headStart = await opened(scene.lab, stack, {
    caches: () => [upstream],
    attach: async (jobs) => {
      asked.push(...jobs);
      return late;
    },
    mayPatch: () => false,
  });
  headStart.take(root.info, upstream);
  await until(() => asked.length === 1);
  late = undefined;
  headStart.take(leaf.info, upstream);
  await until(() => headStart.jobs.size > 0);
  headStart.end();
  await headStart.finish([], { onFetched: () => undefined });
  assert.deepEqual([...headStart.jobs.keys()], [leaf.info.fileHash]);
  assert.equal(headStart.torrentsLate, undefined, 'the plan may take patches');
});

test('no more is begun than the limit leaves room for', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { root, leaf, server, written } = scene;
  const more = await written.add('more');
  const upstream = parseUpstream(server.url);
  let batches = 0;
  const headStart = await opened(scene.lab, stack, {
    caches: () => [upstream],
    attach: async () => void batches++,
    maxBytes: root.file.length + leaf.file.length - 1,
  });
  for (const { info } of [root, leaf]) headStart.take(info, upstream);
  await until(() => headStart.jobs.size > 0);
  headStart.take(more.info, upstream);
  await until(() => batches === 2);
  await headStart.finish([], { onFetched: () => undefined });
  assert.deepEqual([...headStart.jobs.keys()], [root.info.fileHash]);
});

test('its end waits for those who still hand NARs over', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { server, root, leaf } = scene;
  const upstream = parseUpstream(server.url);
  const headStart = await opened(scene.lab, stack, { caches: () => [upstream] });
  const jobOf = ({ info }: WrittenPath): NarJob => newJob(namedFile(info)!, info, upstream);
  const others = Promise.withResolvers<void>();
  const fetched: string[] = [];
  const onFetched = ({ info }: NarJob): void => void fetched.push(info.storePath);
  const finishing = headStart.finish([jobOf(leaf)], { onFetched }, others.promise);
  await until(() => fetched.length === 1);
  await headStart.scheduler.add([jobOf(root)]);
  others.resolve();
  await finishing;
  assert.deepEqual(fetched, [leaf.info.storePath, root.info.storePath]);
});

test('a cache that is found meanwhile takes over what the others are sending', LIMIT, async () => {
  await using scene = await setScene();
  await using stack = new AsyncDisposableStack();
  const { server, written, root, leaf } = scene;
  server.faults = [{ kind: 'stall', match: new RegExp(root.info.url), afterBytes: 10 }];
  const nearServer = stack.use(await startHttpCache(written.dir));
  const [far, near] = [parseUpstream(server.url), parseUpstream(nearServer.url)];
  let caches = [far];
  const headStart = await opened(scene.lab, stack, { caches: () => caches });
  headStart.take(root.info, far);
  await until(() => server.requests.some(({ url, bytes }) => url === `/${root.info.url}` && bytes > 0));
  caches = [near, far];
  headStart.take(leaf.info, far);
  headStart.end();
  const fetched: NarJob[] = [];
  const rest = newJob(namedFile(leaf.info)!, leaf.info, far);
  await headStart.finish([...headStart.jobs.values(), rest], { onFetched: (job) => void fetched.push(job) });
  assert.deepEqual(new Set(fetched.map(({ info }) => info)), new Set([root.info, leaf.info]));
  assert.deepEqual(
    nearServer.requests.map(({ url }) => url).toSorted(),
    [root, leaf].map(({ info }) => `/${info.url}`).toSorted(),
  );
});

// xz takes most of its time.
test('once the plan is there, all NARs that wait come in its order', { timeout: 240_000 }, async () => {
  await using lab = await Lab.open();
  await using stack = new AsyncDisposableStack();
  const written = await WrittenCache.create(await lab.folder('cache'), 'order-1');
  const paths: WrittenPath[] = [];
  for (let index = 0; index < 4 * SLOTS; index++)
    paths.push(await written.add(`path-${index}`, { contents: randomBytes(300_000).toString('hex') }));
  const server = stack.use(await startHttpCache(written.dir));
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  server.faults = gates.map(({ promise }) => ({ kind: 'hold', times: SLOTS, until: promise }));
  const upstream = parseUpstream(server.url);
  const headStart = await opened(lab, stack, { caches: () => [upstream] });
  const last = new Set(paths.slice(-SLOTS).map(({ info }) => `/${info.url}`));
  // The first of these are begun; the others wait for a lane.
  for (const { info } of paths.slice(0, 2 * SLOTS)) headStart.take(info, upstream);
  await until(() => server.requests.length === SLOTS);
  headStart.end();
  const rest = paths.slice(2 * SLOTS).map(({ info }) => newJob(namedFile(info)!, info, upstream));
  const finishing = headStart.finish([...headStart.jobs.values(), ...rest], {
    placeOf: ({ info }) => (last.has(`/${info.url}`) ? 0 : 1),
    onFetched: () => undefined,
  });
  gates[0]?.resolve();
  await until(() => server.requests.length >= SLOTS + ORDERED);
  const next = server.requests.slice(SLOTS, SLOTS + ORDERED).map(({ url }) => url);
  gates[1]?.resolve();
  await finishing;
  assert.deepEqual(
    next.filter((url) => !last.has(url)),
    [],
  );
});

/** A network that has only members. */
function networkOf({ members, peers }: MadeMember): Network {
  const network = { members, swarm: { peers }, discovery: new EventEmitter(), foreigners: () => [], mayMeet: true };
  return network as unknown as Network;
}

/** NARs that a test has been told of. Everything is shared. */
function heldNars(): { readonly held: HeldNars; readonly added: HeldNar[] } {
  const added: HeldNar[] = [];
  const begin = (): object => ({ add: () => undefined, end: () => undefined });
  const held = { isShared: async () => true, add: (nar: HeldNar) => added.push(nar), begin };
  return { held: held as unknown as HeldNars, added };
}

test(
  'NARs that a neighbour has come from it, in whichever turn they are found, and are offered at once',
  LIMIT,
  async () => {
    await using lab = await Lab.open();
    await using stack = new AsyncDisposableStack();
    const written = await WrittenCache.create(await lab.folder('cache'), 'near-1');
    const server = stack.use(await startHttpCache(written.dir));
    const upstream = parseUpstream(server.url);
    const paths = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        written.add(`path-${index}`, { contents: randomBytes(5_000).toString('hex') }),
      ),
    );
    const files = paths.map(({ info, file }) => ({ file: info.fileHash!, bytes: file }));
    const seeder = stack.use(await startMember({ files }));
    const client = stack.use(await startMember());
    client.meet(seeder);
    await until(() => client.members.open.size > 0);
    const { held, added } = heldNars();
    const headStart = await opened(lab, stack, { caches: () => [upstream], network: networkOf(client), held });
    for (const [index, { info }] of paths.entries()) {
      headStart.take(info, upstream);
      await until(() => added.length === index + 1);
    }
    headStart.end();
    await headStart.finish([...headStart.jobs.values()], { onFetched: () => undefined });
    assert.deepEqual(
      added.map(({ info, isOfMembers }) => [info.storePath, isOfMembers]),
      paths.map(({ info }) => [info.storePath, true]),
    );
    assert.deepEqual(server.requests, []);
  },
);

test(
  'no NAR begins before the hash maps have answered or are late, and later ones get their torrents',
  LIMIT,
  async () => {
    await using scene = await setScene();
    await using stack = new AsyncDisposableStack();
    const { server, root, leaf } = scene;
    const upstream = parseUpstream(server.url);
    const gate = Promise.withResolvers<void>();
    const asked: NarJob[] = [];
    let areLate = true;
    const late = (): Promise<void> => Promise.resolve();
    const headStart = await opened(scene.lab, stack, {
      caches: () => [upstream],
      attach: async (jobs) => {
        asked.push(...jobs);
        await gate.promise;
        return areLate ? late : undefined;
      },
    });
    headStart.take(root.info, upstream);
    await until(() => asked.length === 1);
    assert.deepEqual([server.requests.length, headStart.jobs.size], [0, 0]);
    gate.resolve();
    await until(() => headStart.jobs.size === 1);
    areLate = false;
    headStart.take(leaf.info, upstream);
    await until(() => headStart.jobs.size === 2);
    headStart.end();
    await headStart.finish([...headStart.jobs.values()], { onFetched: () => undefined });
    assert.deepEqual(asked, [...headStart.jobs.values()]);
    assert.equal(headStart.torrentsLate, late, 'that of the first NAR is looked up again');
  },
);
