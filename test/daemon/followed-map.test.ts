/** A daemon notices a new edition of a hash map that it follows, and checks the claims of members. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { EventEmitter, once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { FollowedMap } from '../../src/daemon/followed-map.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { HttpClient } from '../../src/http/client.ts';
import type { PublisherAddress } from '../../src/index/address.ts';
import { OfferedEditions } from '../../src/index/files/editions.ts';
import type { Manifest } from '../../src/index/manifest.ts';
import { PeerTable, strangerAt } from '../../src/discovery/peer-table.ts';
import { Publisher } from '../../src/publish/publisher.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { factsOf } from '../../src/warning.ts';
import { Network } from '../../src/swarm/network.ts';
import { KEY } from '../index/fixtures.ts';
import { emptyStore } from '../store/store-fixture.ts';
import { Lab } from '../support/lab.ts';
import { serve } from '../support/odd-server.ts';

const ALONE = { scope: 'lan', listen: '127.0.0.1', dht: false, lan: false } as const;
const LONG_MS = 3_600_000;

describe('a followed map', () => {
  /** A publisher of one closure, to which another one can be added. */
  async function publish(t: TestContext): Promise<{ publisher: Publisher; addAnother: () => Promise<void> }> {
    const lab = await Lab.open();
    t.after(() => lab[Symbol.asyncDispose]());
    const [first, second] = [await lab.closure([10_000], 'first'), await lab.closure([5_000], 'second')];
    const publisher = await Publisher.start({
      store: await FileStore.open(first.cacheDir, { create: true }),
      key: KEY,
      salt: '',
      contents: () => Promise.resolve('everything'),
      keys: [first, second].map(({ publicKey }) => parsePublicKey(publicKey)),
      validForMs: LONG_MS,
      hints: [],
      signal: t.signal,
      network: { ...ALONE, peers: [] },
      httpPorts: [0],
      onWarning: (warning) => assert.fail(JSON.stringify(factsOf(warning))),
    });
    t.after(() => publisher.close());
    return {
      publisher,
      addAnother: async () => {
        const filter = (path: string): boolean => !path.endsWith('/narswarm');
        await cp(second.cacheDir, first.cacheDir, { recursive: true, preserveTimestamps: true, filter });
        assert.ok(await publisher.rebuild());
      },
    };
  }

  /** Follows it, by the peer port of the publisher alone unless `address` has its mirror. @param byPeer by both */
  async function follow(
    t: TestContext,
    publisher: Publisher,
    address: PublisherAddress,
    checkMs: number,
    { byPeer = address.baseUrl === undefined } = {},
  ) {
    const peers = [{ host: '127.0.0.1', port: publisher.network.swarm.port }];
    const network = await Network.join({ ...ALONE, peers: byPeer ? peers : [] });
    const http = new HttpClient();
    t.after(() => Promise.all([network.close(), http.close()]));
    const news = new EventEmitter<{ edition: [Manifest] }>();
    const map = new FollowedMap(address, {
      store: await emptyStore(t),
      network,
      http,
      maps: new OfferedEditions(),
      signal: t.signal,
      onWarning: (warning) => t.diagnostic(JSON.stringify(factsOf(warning))),
      onEdition: async (manifest) => void news.emit('edition', manifest),
      checkMs,
    });
    network.members.on('edition', ({ peer }, edition) => map.onTold(peer, edition));
    const next = async (): Promise<Manifest> =>
      (await once(news, 'edition', { signal: AbortSignal.any([t.signal, AbortSignal.timeout(60_000)]) }))[0];
    return { map, network, news, next };
  }

  test('is fetched, edition by edition, from a member that announces it, without DHT or mirror', async (t) => {
    const { publisher, addAnother } = await publish(t);
    const { address } = publisher.built.publication;
    const { map, next } = await follow(t, publisher, address, LONG_MS);
    const first = next();
    void map.run();
    const { seq, recordCount } = await first;
    assert.equal(seq, publisher.built.publication.manifest.seq);
    const second = next();
    await addAnother();
    const newer = await second;
    assert.ok(newer.seq > seq && newer.recordCount > recordCount);
  });

  test('is requested from the publisher’s mirror from time to time', async (t) => {
    const { publisher, addAnother } = await publish(t);
    const { address } = publisher.built.publication;
    const baseUrl = `http://127.0.0.1:${publisher.http.port}`;
    const { map, next } = await follow(t, publisher, { ...address, baseUrl }, 50);
    const first = next();
    void map.run();
    const { seq } = await first;
    const second = next();
    await addAnother();
    assert.ok((await second).seq > seq);
  });

  /** A mirror of the edition that was published when it started. It can fall silent. */
  class HeldMirror {
    readonly url: string;
    readonly #news = new EventEmitter<{ request: [] }>();
    #voice = Promise.withResolvers<void>();
    /** Number of answered requests. */
    answered = 0;
    readonly #waiting = new Set<unknown>();

    private constructor(url: string) {
      this.url = url;
      this.speak();
    }

    static async start(t: TestContext, publisher: Publisher): Promise<HeldMirror> {
      const files = new Map<string | undefined, Buffer>();
      for (const name of ['/manifest', '/shards/all.zst']) {
        const answer = await fetch(`http://127.0.0.1:${publisher.http.port}${name}`);
        files.set(name, Buffer.from(await answer.arrayBuffer()));
      }
      const server = await serve((request, response) => {
        mirror.#waiting.add(response);
        response.on('close', () => mirror.#waiting.delete(response));
        mirror.#news.emit('request');
        void mirror.#voice.promise.then(() => {
          mirror.#waiting.delete(response);
          response.end(files.get(request.url));
          mirror.answered++;
          mirror.#news.emit('request');
        });
      });
      t.after(() => server[Symbol.asyncDispose]());
      const mirror = new HeldMirror(server.url);
      return mirror;
    }

    /** Number of requests that wait for an answer. */
    get waiting(): number {
      return this.#waiting.size;
    }

    silence(): void {
      this.#voice = Promise.withResolvers();
    }

    speak(): void {
      this.#voice.resolve();
    }

    async until(holds: () => boolean): Promise<void> {
      while (!holds()) await once(this.#news, 'request');
    }
  }

  test('is fetched from a member while the mirror accepts a request and says nothing', async (t) => {
    const { publisher } = await publish(t);
    const mirror = await HeldMirror.start(t, publisher);
    mirror.silence();
    const address = { ...publisher.built.publication.address, baseUrl: mirror.url };
    const { map, next } = await follow(t, publisher, address, 50, { byPeer: true });
    const first = next();
    void map.run();
    await mirror.until(() => mirror.waiting > 0);
    assert.equal((await first).seq, publisher.built.publication.manifest.seq);
    assert.deepEqual([mirror.waiting, mirror.answered], [1, 0], 'the first look-up is not over');
  });

  test('is fetched from a member while a mirror that has answered before says nothing', async (t) => {
    const { publisher, addAnother } = await publish(t);
    const mirror = await HeldMirror.start(t, publisher);
    const address = { ...publisher.built.publication.address, baseUrl: mirror.url };
    const { map, next } = await follow(t, publisher, address, 50, { byPeer: true });
    const first = next();
    void map.run();
    const { seq } = await first;
    await mirror.until(() => mirror.answered > 2); // a look-up reads two files at most
    mirror.silence();
    const { answered } = mirror;
    await mirror.until(() => mirror.waiting > 0);
    const second = next();
    await addAnother();
    assert.ok((await second).seq > seq);
    assert.deepEqual([mirror.waiting, mirror.answered], [1, answered], 'the question is not over');
  });

  test('stays at the edition of a member if the mirror then answers with an older one', async (t) => {
    const { publisher, addAnother } = await publish(t);
    const mirror = await HeldMirror.start(t, publisher);
    mirror.silence();
    const address = { ...publisher.built.publication.address, baseUrl: mirror.url };
    await addAnother();
    const { map, network, news, next } = await follow(t, publisher, address, 50, { byPeer: true });
    const seqs: number[] = [];
    news.on('edition', ({ seq }) => seqs.push(seq));
    const first = next();
    void map.run();
    await mirror.until(() => mirror.waiting > 0);
    const { seq } = await first;
    const gone = once(network.members, 'gone');
    await publisher.close();
    await gone;
    mirror.speak();
    await mirror.until(() => mirror.answered > 3);
    assert.deepEqual(seqs, [seq]);
  });

  test('is fetched even if a member announces an edition that it does not have', async (t) => {
    const { publisher } = await publish(t);
    const { address } = publisher.built.publication;
    const { map, next } = await follow(t, publisher, address, LONG_MS);
    const infoHash = 'cd'.repeat(20) as InfoHash;
    map.onTold(strangerAt('127.0.0.1:1'), { group: map.group, seq: 2 ** 40, infoHash });
    const first = next();
    void map.run();
    assert.equal((await first).seq, publisher.built.publication.manifest.seq);
  });

  test('is asked for at the next host while one is silent, and at no host whose claims were false twice', async (t) => {
    const network = await Network.join({ ...ALONE, peers: [] });
    const http = new HttpClient();
    t.after(() => Promise.all([network.close(), http.close()]));
    const map = new FollowedMap(
      { publicKey: KEY.publicKey, publicKeyHex: Buffer.from(KEY.publicKey).toString('hex'), salt: '' },
      {
        store: await emptyStore(t),
        network,
        http,
        maps: new OfferedEditions(),
        signal: t.signal,
        onWarning: (warning) => t.diagnostic(JSON.stringify(factsOf(warning))),
        onEdition: () => Promise.resolve(),
        checkMs: LONG_MS,
      },
    );
    void map.run();
    const asked: string[] = [];
    const open = new Set<string>();
    const news = new EventEmitter<{ asked: [] }>();
    /** A peer that claims to hold an edition, and sends nothing when it is asked. */
    const tell = async (name: string, host: string): Promise<void> => {
      const server = createServer((socket) => {
        asked.push(name);
        open.add(name);
        socket.on('error', () => undefined).on('close', () => open.delete(name));
        socket.resume();
        news.emit('asked');
      }).listen(0, host);
      t.after(() => server.close());
      await once(server, 'listening');
      const peer = new PeerTable().add({ host, port: (server.address() as AddressInfo).port });
      map.onTold(peer, { group: map.group, seq: 2 ** 40, infoHash: 'cd'.repeat(20) as InfoHash });
    };
    const until = async (name: string): Promise<void> => {
      while (!asked.includes(name)) await once(news, 'asked', { signal: t.signal });
    };
    await tell('first', '127.0.0.1');
    await until('first');
    await tell('second', '127.0.0.1');
    await until('second');
    assert.ok(open.has('first'), 'the first question is not over');
    await tell('third', '127.0.0.1'); // as if it had connected again
    await tell('other', '127.0.0.2');
    await until('other');
    assert.deepEqual([...new Set(asked)], ['first', 'second', 'other']);
  });
});
