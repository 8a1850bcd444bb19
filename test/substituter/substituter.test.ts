/** The substituter as Nix sees it: over HTTP, with an upstream behind it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseCacheInfo } from '../../src/nix/cache-info.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import type { Substituter } from '../../src/substituter/substituter.ts';
import { Lab } from '../support/lab.ts';
import type { WrittenPath } from '../support/written-cache.ts';
import { narInfoUrl, narUrl, scene, type Scene } from './scene.ts';

const LIMIT = { timeout: 180_000 };
const LARGE = 6_000_000;
/** NARs that are requested at the same time: an order is given, and these have more than 1 MiB together. */
const SLOTS = 4;

suite('the substituter', () => {
  test('is a binary cache that no other is asked before, if nix.conf names it first', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url } = await scene(lab);
    const info = parseCacheInfo(await (await fetch(`${url}/nix-cache-info`)).text());
    assert.deepEqual(info, { storeDir: '/nix/store', wantMassQuery: true, priority: 0 });
  });

  test('gives the narinfo of an upstream with its signatures, and names its own file', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const answer = await fetch(narInfoUrl(made, made.top));
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-encoding'), null);
    const { url, ...rest } = parseNarInfo(await answer.text());
    const { url: theirs, ...signed } = made.top.info;
    assert.deepEqual(rest, signed);
    assert.equal(url, `${theirs}?path=${made.top.baseName.slice(0, 32)}`);
  });

  test('fetches the whole closure of the first path that Nix asks for', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    await fetch(narInfoUrl(made, made.top));
    await untilHere(made, made.top, made.middle, made.leaf);
    const nars = made.cache.requests.filter(({ url }) => url.startsWith('/nar/'));
    assert.equal(nars.length, 3);
  });

  test('a question whether there is a narinfo fetches nothing', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const answer = await fetch(narInfoUrl(made, made.top), { method: 'HEAD' });
    assert.equal(answer.status, 200);
    await fetch(narInfoUrl(made, made.leaf));
    await untilHere(made, made.leaf);
    assert.deepEqual(await readdir(join(made.store.dir, 'nar')), [made.leaf.info.url.slice('nar/'.length)]);
  });

  test('ends if no NAR is asked for, and writes the narinfos of what has arrived', LIMIT, async () => {
    await using lab = await Lab.open();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const made = await scene(lab, { lookingMs: Infinity, onEnded: resolve });
    await fetch(narInfoUrl(made, made.top));
    await untilHere(made, made.top, made.middle, made.leaf);
    made.options.lookingMs = 0; // as if the last question was long ago
    await ended;
    for (const { info } of [made.top, made.middle, made.leaf])
      assert.equal((await made.store.readNarInfoOf(info.storePath))?.fileHash, info.fileHash);
    made.cache.resetCounts();
    assert.equal((await fetch(narInfoUrl(made, made.top))).status, 200);
    assert.equal(made.cache.requests.length, 0);
  });

  test('asks an upstream once for a path that it does not have, and then remembers it', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const url = `${made.url}/${'a'.repeat(32)}.narinfo`;
    const answers = await Promise.all([fetch(url), fetch(url), fetch(url)]);
    answers.push(await fetch(url));
    for (const { status } of answers) assert.equal(status, 404);
    assert.equal(made.cache.requests.filter((one) => one.url.includes('aaaa')).length, 1);
  });

  for (const kind of ['status', 'cut', 'shorter'] as const) {
    test(`answers 404 for a narinfo if the upstream fails (${kind})`, LIMIT, async () => {
      await using lab = await Lab.open();
      const made = await scene(lab);
      made.cache.faults = [{ kind, match: /narinfo$/, ...(kind === 'status' && { status: 503 }), afterBytes: 100 }];
      assert.equal((await fetch(narInfoUrl(made, made.top))).status, 404);
    });
  }

  test('answers 404 for a narinfo if no upstream can be reached', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    await made.cache.stop();
    assert.equal((await fetch(narInfoUrl(made, made.top))).status, 404);
    assert.equal((await fetch(narUrl(made, made.top))).status, 404);
  });

  test('answers 404 for names that no path and no NAR can have', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url } = await scene(lab);
    const odd = 'e'.repeat(52); // a letter that nix32 does not have
    const long = 'a'.repeat(4_000);
    for (const path of [
      `${odd.slice(0, 32)}.narinfo`,
      `nar/${odd}.nar.xz`,
      `nar/${odd}.nar?path=${odd.slice(0, 32)}`,
      `${long}.narinfo`,
      `nar/${long}`,
      '%zz.narinfo',
      'nar/%00',
    ])
      assert.equal((await fetch(`${url}/${path}`)).status, 404);
  });

  test('answers 404 for a NAR that fails before its first byte', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    made.cache.faults = [{ kind: 'corrupt', match: /^\/nar\//, afterBytes: 5 }];
    assert.equal((await fetch(narUrl(made, made.leaf))).status, 404);
  });

  test('gives a NAR while it arrives', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'stall', match: /^\/nar\//, afterBytes: 2_000_000, times: 1 }];
    await fetch(narInfoUrl(made, made.leaf));
    const answer = await fetch(narUrl(made, made.leaf));
    assert.equal(answer.headers.get('content-length'), String(made.leaf.file.length));
    const reader = answer.body?.getReader();
    const first = (await reader?.read())?.value ?? new Uint8Array();
    assert.ok(!isHere(made, made.leaf), 'it has not arrived');
    assert.ok(first.length > 0);
    const chunks = [first];
    for (let next = await reader?.read(); next?.value !== undefined; next = await reader?.read())
      chunks.push(next.value);
    assert.ok(Buffer.concat(chunks).equals(made.leaf.file));
  });

  test('gives large NARs decoded to a Nix of this machine that decodes one after another', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    const { info, file } = made.leaf;
    const narInfo = async (path: WrittenPath, version: string): Promise<NarInfo> =>
      parseNarInfo(
        await (await fetch(narInfoUrl(made, path), { headers: { 'user-agent': `curl/7.88.1 Nix/${version}` } })).text(),
      );
    for (const version of ['2.16.0', '2.34.1', '3.0'])
      assert.equal((await narInfo(made.leaf, version)).compression, 'xz');
    assert.equal((await narInfo(made.middle, '2.8.0')).compression, 'xz', 'a small one');

    const { url, ...rest } = await narInfo(made.leaf, '2.8.0');
    const { url: _theirs, ...theirs } = info;
    assert.deepEqual(rest, { ...theirs, compression: 'none', fileHash: info.narHash, fileSize: info.narSize });
    const nar = execFileSync('xz', ['-dc'], { input: file, maxBuffer: Infinity });
    for (const method of ['GET', 'HEAD']) {
      const answer = await fetch(`${made.url}/${url}`, { method });
      assert.equal(answer.headers.get('content-length'), String(info.narSize));
      const bytes = Buffer.from(await answer.arrayBuffer());
      assert.ok(bytes.equals(method === 'GET' ? nar : Buffer.alloc(0)));
    }
    assert.ok(isHere(made, made.leaf));
    assert.ok(Buffer.from(await (await fetch(`${made.url}/${url}`)).arrayBuffer()).equals(nar), 'from the store');
    assert.equal((await narInfo(made.leaf, '2.15.9')).compression, 'none');
    const found = await ask(made, made.leaf);
    assert.equal(found?.kind, 'here', 'the file can still be had');
  });

  test('a client that leaves before the first decoded byte leaves nothing behind', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    made.cache.faults = [{ kind: 'hold', match: /^\/nar\//, until }];
    const stop = new AbortController();
    const answer = fetch(`${narUrl(made, made.leaf)}&as=nar`, { signal: stop.signal });
    while ((await decodedFiles(made)) === 0) await sleep(10);
    stop.abort();
    await assert.rejects(answer);
    while ((await decodedFiles(made)) > 0) await sleep(10);
    release();
  });

  test('does not decode for another machine', LIMIT, async () => {
    await using lab = await Lab.open();
    const { substituter, leaf } = await scene(lab, { leafBytes: LARGE });
    const guest = { isLocal: false, isNarswarm: false, onlyAsks: false, isSerial: true };
    const storeHash = parseStoreHash(leaf.baseName.slice(0, 32));
    assert.equal(parseNarInfo((await substituter.narInfo(storeHash, guest)) ?? '').compression, 'xz');
    const { fileHash } = leaf.info;
    assert.ok(fileHash !== undefined);
    for (const isDecoded of [true, false]) {
      const found = await substituter.nar({ fileHash, extension: 'xz', storeHash, isDecoded }, guest);
      assert.equal(found !== undefined, !isDecoded);
    }
  });

  test('answers 404 for a NAR that cannot be decoded', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'corrupt', match: /^\/nar\//, afterBytes: 5 }];
    assert.equal((await fetch(`${narUrl(made, made.leaf)}&as=nar`)).status, 404);
    assert.equal((await fetch(narUrl(made, made.leaf).replace(/path=.*/, 'as=nar'))).status, 404);
  });

  test('sends every client the right bytes, however slowly it reads', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    const receive = async (query: string, wanted: Buffer): Promise<void> => {
      const answer = await fetch(`${narUrl(made, made.leaf)}${query}`);
      const chunks: Uint8Array[] = [];
      for await (const chunk of answer.body ?? []) {
        chunks.push(chunk);
        if (chunks.length % 16 === 0) await sleep(1);
      }
      assert.ok(Buffer.concat(chunks).equals(wanted));
    };
    const { file } = made.leaf;
    const nar = execFileSync('xz', ['-dc'], { input: file, maxBuffer: Infinity });
    for (const _ of ['while it arrives', 'from the store'])
      await Promise.all([receive('', file), receive('&as=nar', nar), receive('', file), receive('&as=nar', nar)]);
  });

  test('fetches a NAR once, however many ask for it', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 20_000_000 }];
    const bodies = await Promise.all(
      Array.from({ length: 8 }, async () => (await fetch(narUrl(made, made.leaf))).arrayBuffer()),
    );
    for (const body of bodies) assert.ok(Buffer.from(body).equals(made.leaf.file));
    assert.equal(made.cache.requests.filter(({ url }) => url.startsWith('/nar/')).length, 1);
  });

  test('NARs that Nix waits for come in the order of its questions', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { others: 16 });
    for (const path of made.others) await fetch(narInfoUrl(made, path), { method: 'HEAD' });
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    made.cache.faults = [{ kind: 'hold', match: /^\/nar\//, until }];
    made.cache.resetCounts();
    const asked = made.others.toReversed(); // an import would want them the other way round
    const answers = asked.map((path) => ask(made, path));
    for (const answer of answers) assert.equal((await answer)?.kind, 'arriving');
    while (made.cache.requests.length < SLOTS) await sleep(10);
    const first = made.cache.requests.slice(0, SLOTS).map(({ url }) => url);
    release();
    assert.deepEqual(
      first.toSorted(),
      asked
        .slice(0, SLOTS)
        .map(({ info }) => `/${info.url}`)
        .toSorted(),
    );
    await untilHere(made, ...asked);
  });

  test('fetches go on while a client waits for the first byte of a NAR, and no longer', LIMIT, async () => {
    await using lab = await Lab.open();
    const { promise: ended, resolve: onEnded } = Promise.withResolvers<void>();
    const made = await scene(lab, { lookingMs: 10, onEnded }); // looks every 10 ms
    made.options.lookingMs = Infinity; // it looks as often
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    made.cache.faults = [{ kind: 'hold', match: /^\/nar\//, until }];
    const looks: number[] = [];
    const idleMs = (): number => {
      looks.push(performance.now());
      return -1; // as if the last question was long ago
    };
    const answer = fetch(narUrl(made, made.leaf));
    while (!made.cache.requests.some(({ url }) => url.startsWith('/nar/'))) await sleep(10);
    Object.defineProperty(made.options, 'idleMs', { get: idleMs });
    while (looks.length < 5) await sleep(10);
    release();
    assert.ok(Buffer.from(await (await answer).arrayBuffer()).equals(made.leaf.file));
    await ended;
  });

  test('a client that goes away does not end the fetch', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'slow', match: /^\/nar\//, rateBytesPerSec: 10_000_000 }];
    const stop = new AbortController();
    const answer = await fetch(narUrl(made, made.leaf), { signal: stop.signal });
    await answer.body?.getReader().read();
    stop.abort();
    await untilHere(made, made.leaf);
  });

  test('a NAR that turns out to be wrong never arrives whole', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'corrupt', match: /^\/nar\//, afterBytes: 1_000_000 }];
    const answer = await fetch(narUrl(made, made.leaf));
    if (answer.status === 200) await assert.rejects(answer.arrayBuffer());
    else assert.equal(answer.status, 404);
    assert.ok(!isHere(made, made.leaf));
  });

  test('bytes that were passed on and replaced later end the connection, not the NAR', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab, { leafBytes: LARGE });
    made.cache.faults = [{ kind: 'corrupt', match: /^\/nar\//, afterBytes: 10, times: 1 }];
    const answer = await fetch(narUrl(made, made.leaf));
    await assert.rejects(answer.arrayBuffer());
    const again = await fetch(narUrl(made, made.leaf));
    assert.ok(Buffer.from(await again.arrayBuffer()).equals(made.leaf.file));
  });

  test('gives parts of a NAR, and refuses a part that is not there', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const { file } = made.leaf;
    for (const [range, status, body] of [
      ['bytes=5-9', 206, file.subarray(5, 10)],
      ['bytes=-4', 206, file.subarray(-4)],
      ['bytes=7-', 206, file.subarray(7)],
      ['bytes=99999999-', 416, Buffer.alloc(0)],
      ['lines=1-2', 200, file],
    ] as const) {
      const answer = await fetch(narUrl(made, made.leaf), { headers: { range } });
      assert.equal(answer.status, status, range);
      assert.ok(Buffer.from(await answer.arrayBuffer()).equals(body), range);
    }
    const head = await fetch(narUrl(made, made.leaf), { method: 'HEAD' });
    assert.equal(head.headers.get('content-length'), String(file.length));
    assert.equal(head.headers.get('accept-ranges'), 'bytes');
  });

  test('asks nobody for narswarm itself, which would ask back', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const headers = { 'user-agent': 'narswarm' };
    assert.equal((await fetch(narInfoUrl(made, made.leaf), { headers })).status, 404);
    assert.equal((await fetch(narUrl(made, made.leaf), { headers })).status, 404);
    assert.equal(made.cache.requests.length, 0);
  });

  test('another machine gets only what is shared', LIMIT, async () => {
    for (const shares of [true, false]) {
      await using lab = await Lab.open();
      const { substituter, leaf } = await scene(lab, { shares });
      const guest = { isLocal: false, isNarswarm: false, onlyAsks: false, isSerial: false };
      const storeHash = parseStoreHash(leaf.baseName.slice(0, 32));
      assert.equal((await substituter.narInfo(storeHash, guest)) !== undefined, shares);
      const { fileHash } = leaf.info;
      assert.ok(fileHash !== undefined);
      for (const path of [storeHash, undefined]) {
        const found = await substituter.nar({ fileHash, extension: 'xz', storeHash: path, isDecoded: false }, guest);
        assert.equal(found !== undefined, shares && path !== undefined);
      }
    }
  });

  test('lists nothing, and serves nothing else of the store', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url } = await scene(lab);
    for (const path of [
      '/',
      '/nar',
      '/nar/',
      '/narswarm/claims',
      '/nar/..%2fnix-cache-info',
      '/realisations/',
      '/log/x',
    ])
      assert.equal((await fetch(`${url}${path}`)).status, 404, path);
  });

  test('a question for a realisation leads nowhere else, neither here nor in a cache', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url, cache } = await scene(lab);
    for (const folder of ['realisations', 'build-trace-v2'])
      for (const name of [
        '..%2f..%2fsecret.doi',
        '..%2fsecret',
        '%2fdev%2fnull',
        'a%2f..%2f..%2fx.doi',
        'x.drv%2fout.doi',
      ])
        assert.equal((await fetch(`${url}/${folder}/${name}`)).status, 404, name);
    assert.equal(cache.requests.length, 0);
    await fetch(`${url}/realisations/sha256:${'0'.repeat(64)}!out.doi`);
    assert.ok(cache.requests.some(({ url: asked }) => asked.includes('realisations')));
  });

  test('answers 404 for a realisation that a cache sends byte by byte', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url, cache, written, leaf } = await scene(lab);
    const file = await written.addRealisation(leaf);
    cache.faults = [{ match: /realisations/, kind: 'slow', rateBytesPerSec: 1 }];
    assert.equal((await fetch(`${url}/${file}`)).status, 404);
    cache.faults = [];
    assert.equal((await fetch(`${url}/${file}`)).status, 200);
  });

  test('a connection on which many requests wait is closed', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url } = await scene(lab);
    const { port } = new URL(url);
    const endOf = async (requests: number): Promise<'answered' | 'closed'> => {
      const socket = connect(Number(port), '127.0.0.1')
        .setEncoding('latin1')
        .on('error', () => undefined);
      const paths = Array.from({ length: requests }, (_, index) => `/${String(index).padStart(32, '0')}.narinfo`);
      socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`).join(''));
      const { promise, resolve } = Promise.withResolvers<'answered' | 'closed'>();
      let text = '';
      socket.on('close', () => resolve('closed'));
      socket.on('data', (chunk: string) => {
        text += chunk;
        if (text.split('HTTP/1.1 404').length > requests) resolve('answered');
      });
      const end = await promise;
      socket.destroy();
      return end;
    };
    assert.equal(await endOf(100), 'answered');
    assert.equal(await endOf(500), 'closed');
  });

  test('answers only under a name of this machine', LIMIT, async () => {
    await using lab = await Lab.open();
    const { url } = await scene(lab);
    const statusFor = (host: string): Promise<number | undefined> => statusOf(`${url}/nix-cache-info`, { host });
    for (const host of ['rebound.example', `${hostname()}.rebound.example`])
      assert.equal(await statusFor(host), 421, host);
    for (const host of ['localhost', '127.0.0.1:80', '[::1]:16275']) assert.equal(await statusFor(host), 200, host);
  });

  test('a web page of another server makes no browser ask for a path', LIMIT, async () => {
    await using lab = await Lab.open();
    const made = await scene(lab);
    const ofPage = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' };
    const asked = [narInfoUrl(made, made.top), narUrl(made, made.top)];
    for (const url of asked)
      for (const headers of [
        ofPage,
        { ...ofPage, 'sec-fetch-site': 'same-site' },
        { ...ofPage, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' },
      ])
        assert.equal(await statusOf(url, headers), 403);
    assert.deepEqual(made.cache.requests, []);
    for (const url of asked) assert.equal(await statusOf(url, { 'sec-fetch-site': 'none' }), 200);
  });
});

/** Returns the status of an answer to these headers. */
function statusOf(url: string, headers: Readonly<Record<string, string>>): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  request(url, { headers }, (answer) => {
    answer.resume();
    resolve(answer.statusCode);
  }).end();
  return promise;
}

/** Asks for a NAR as Nix on this machine does. */
function ask({ substituter }: Scene, { info, baseName }: WrittenPath): ReturnType<Substituter['nar']> {
  const { fileHash } = info;
  assert.ok(fileHash !== undefined);
  const storeHash = parseStoreHash(baseName.slice(0, 32));
  return substituter.nar(
    { fileHash, extension: 'xz', storeHash, isDecoded: false },
    { isLocal: true, isNarswarm: false, onlyAsks: false, isSerial: false },
  );
}

function isHere({ store }: Scene, { info }: WrittenPath): boolean {
  return existsSync(join(store.dir, info.url));
}

/** Returns the number of open files of decoded NARs. They have no name any more. */
async function decodedFiles({ store }: Scene): Promise<number> {
  const open = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  const files = (await Promise.all(open)).filter((path) => path.startsWith(store.stateDir));
  return files.filter((path) => path.endsWith('.tmp (deleted)')).length;
}

async function untilHere(made: Scene, ...paths: readonly WrittenPath[]): Promise<void> {
  while (!paths.every((path) => isHere(made, path))) await sleep(10);
}
