/** Finds the newest edition of a hash map with a real publisher, over the DHT and from members. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { warningSentence } from '../../../src/cli/words/warnings.ts';
import { isNarswarmError, NarswarmError, type ErrorCode } from '../../../src/errors.ts';
import { Publisher } from '../../../src/publish/publisher.ts';
import type { PublisherAddress } from '../../../src/index/address.ts';
import type { FileEntry } from '../../../src/index/format/shard.ts';
import { cohortInfoHash } from '../../../src/index/cohort-key.ts';
import type { EditionClaim } from '../../../src/index/resolve/edition-claims.ts';
import { indexDirOf } from '../../../src/index/files/index-dir.ts';
import { MANIFEST_NAME } from '../../../src/index/files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../../../src/index/format/limits.ts';
import type { PublisherKey } from '../../../src/index/publisher-key.ts';
import type { Resolved } from '../../../src/index/resolve/open-map.ts';
import type { GetBytes } from '../../../src/index/resolve/resolve-by-mirror.ts';
import { PeerSource } from '../../../src/index/files/peer-source.ts';
import { resolveHashMap, resolveNamed, type ResolveContext } from '../../../src/index/resolve/resolve.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import { Network } from '../../../src/swarm/network.ts';
import { signGolden } from '../built-index.ts';
import { GOLDEN, KEY, NOW, OTHER_KEY } from '../fixtures.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { Lab } from '../../support/lab.ts';
import type { Warning } from '../../../src/warning.ts';
import { failOnWarning } from '../../support/no-warnings.ts';

interface Scene extends AsyncDisposable {
  readonly publisher: Publisher;
  readonly follower: Network;
  /** The means of the follower. */
  readonly context: ResolveContext & { readonly network: Network };
}

/** A publisher, and a machine that knows its address on the network. */
async function scene(t: TestContext, { dhtNodes }: { readonly dhtNodes: number }): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await Lab.open());
  const made = await lab.closure([10_000]);
  const dht = dhtNodes > 0;
  const { bootstrap } = dht ? await lab.dht(dhtNodes) : { bootstrap: [] };
  const network = { scope: 'lan', listen: '127.0.0.1', dht, dhtBootstrap: bootstrap, lan: false } as const;
  const publisher = stack.use(
    await Publisher.start({
      store: await FileStore.open(made.cacheDir, { create: true }),
      key: KEY,
      salt: '',
      contents: () => Promise.resolve({ named: new Map([['lab', made.root]]), unnamed: [] }),
      keys: [parsePublicKey(made.publicKey)],
      validForMs: 3_600_000,
      hints: [],
      signal: t.signal,
      network: { ...network, peers: [] },
      httpPorts: [0],
      onWarning: failOnWarning,
    }),
  );
  const peers = [{ host: '127.0.0.1', port: publisher.network.swarm.port }];
  const follower = stack.use(await Network.join({ ...network, peers }));
  const context = {
    network: follower,
    getBytes: () => assert.fail('there is no mirror'),
    dir: await tempDir(t),
    now: new Date(),
    timeoutMs: 20_000,
    signal: t.signal,
  };
  const owned = stack.move();
  return { publisher, follower, context, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The only shard. */
const ALL: FileEntry = { prefix: '', sizeBytes: 1, sha256: '' };

/** The address of the publisher's mirror, and other editions of its hash map. */
function mirrored({ publisher }: Scene): {
  readonly address: PublisherAddress;
  readonly editionOf: (seq: number, key?: PublisherKey) => Uint8Array;
} {
  const { publicKey, publicKeyHex, salt } = publisher.built.publication.address;
  const created = new Date();
  const expires = new Date(created.getTime() + 3_600_000);
  return {
    address: { publicKey, publicKeyHex, salt, baseUrl: 'http://mirror.invalid' },
    editionOf: (seq, key = KEY) => signGolden({ key, salt, seq, created, expires }),
  };
}

/** Reads a file of the publisher's edition at its mirror. */
async function published({ publisher }: Scene, name: string): Promise<Uint8Array> {
  const answer = await fetch(`http://127.0.0.1:${publisher.http.port}/${name}`);
  assert.ok(answer.ok, name);
  return Buffer.from(await answer.arrayBuffer());
}

/** Waits until the follower hears which edition the publisher holds. */
async function claimed({ publisher, follower }: Scene, signal: AbortSignal): Promise<EditionClaim> {
  const { publicKey, salt } = publisher.built.publication.address;
  const group = cohortInfoHash(publicKey, salt);
  follower.joinCohort(group);
  for (;;) {
    const [told] = follower.members.editionsOf(group);
    if (told !== undefined) return { teller: told[0], ...told[1] };
    await once(follower.members, 'edition', { signal });
  }
}

describe('resolveHashMap', () => {
  test('joins the swarm of a hash map only for missing files that no member gives', async (t) => {
    await using made = await scene(t, { dhtNodes: 3 });
    const { publisher, follower, context } = made;
    const { address } = publisher.built.publication;
    await claimed(made, t.signal); // members that are met later are not waited for
    {
      await using first = await resolveHashMap(address, context);
      await first.map.fetchAll(t.signal);
      assert.ok(first.map.fetchedBytes > 0);
      assert.equal(follower.swarm.openTorrents, 0, 'the publisher is a member');
    }
    {
      const { infoHash } = publisher.built.publication.torrent;
      await using torrent = new PeerSource(follower, infoHash, t.signal);
      const manifest = await torrent.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal: t.signal });
      assert.deepEqual(await indexDirOf(context.dir, address).readManifest(), Buffer.from(manifest));
      assert.equal(follower.swarm.openTorrents, 1);
    }
    await using again = await resolveHashMap(address, context);
    await again.map.fetchAll(t.signal);
    assert.deepEqual([again.from, again.map.fetchedBytes], ['network', 0]);
    assert.equal(follower.swarm.openTorrents, 0);
  });

  test('reads the newer edition of a member if the mirror is behind', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { follower, context } = made;
    const { address, editionOf } = mirrored(made);
    const getBytes = async (): Promise<Uint8Array> => {
      const group = cohortInfoHash(address.publicKey, address.salt);
      while (follower.members.editionsOf(group).length === 0) await new Promise(setImmediate);
      return editionOf(1);
    };
    for (const asksMembers of [true, false]) {
      const dir = await tempDir(t);
      await using resolved = await resolveHashMap(address, { ...context, dir, getBytes, asksMembers });
      assert.equal(resolved.map.manifest.seq > 1, asksMembers);
    }
  });

  test('reads the newer edition of a member if the mirror fails', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address, editionOf } = mirrored(made);
    await claimed(made, t.signal);
    const failed = new NarswarmError('HTTP_FAILED', 'connection refused');
    const answers: [GetBytes, ErrorCode][] = [
      [() => Promise.reject(failed), 'INDEX_UNREACHABLE'],
      [() => Promise.resolve(undefined), 'INDEX_UNREACHABLE'],
      [() => Promise.resolve(Buffer.from('<html>not found</html>')), 'INDEX_SIGNATURE'],
      [() => Promise.resolve(editionOf(3, OTHER_KEY)), 'INDEX_SIGNATURE'],
      [() => Promise.resolve(editionOf(1)), 'INDEX_ROLLBACK'],
    ];
    for (const [getBytes, code] of answers) {
      for (const kept of [editionOf(2), undefined]) {
        if (kept === undefined && code === 'INDEX_ROLLBACK') continue; // then it is the newest so far
        const dir = await tempDir(t);
        if (kept !== undefined) await indexDirOf(dir, address).writeManifest(kept);
        const warnings: Warning[] = [];
        const onWarning = (warning: Warning): void => void warnings.push(warning);
        const asking = { ...made.context, dir, getBytes, asksMembers: true, onWarning };
        await using resolved = await resolveHashMap(address, asking);
        assert.ok(resolved.map.manifest.seq > 3, 'the edition of the member');
        assert.equal(resolved.from, 'member');
        assert.ok(isNarswarmError(resolved.failure, code), String(resolved.failure));
        const created = resolved.map.manifest.created.toISOString();
        assert.deepEqual(warnings, [{ kind: 'member-map', error: resolved.failure, created }]);
        await resolved.map.fetchAll(t.signal);
      }
    }
  });

  test('a member that does not send the edition that it claims to hold keeps no other waiting', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address, editionOf } = mirrored(made);
    const { teller, ...edition } = await claimed(made, t.signal);
    const { members, swarm } = made.follower;
    let open = 0;
    const silent = createServer((socket) => {
      open++;
      socket.on('error', () => undefined).on('close', () => open--);
      socket.resume();
    }).listen(0, '127.0.0.2');
    t.after(() => silent.close());
    await once(silent, 'listening');
    const liar = swarm.peers.add({ host: '127.0.0.2', port: (silent.address() as AddressInfo).port });
    t.mock.method(members, 'editionsOf', () => [
      [liar, { ...edition, seq: 2 ** 40, infoHash: 'cd'.repeat(20) }],
      [teller, edition],
    ]);
    const getBytes: GetBytes = () => Promise.reject(new NarswarmError('HTTP_FAILED', 'connection refused'));
    const dir = await tempDir(t);
    await indexDirOf(dir, address).writeManifest(editionOf(2));
    const asking = { ...made.context, dir, getBytes, asksMembers: true, onWarning: () => undefined };
    await using resolved = await resolveHashMap(address, asking);
    assert.equal(resolved.from, 'member');
    assert.equal(resolved.map.manifest.seq, edition.seq);
    assert.ok(open > 0, 'the first question was over');
  });

  test('does not wait for the end of the time if the mirror is silent and a member has an edition', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address } = mirrored(made);
    await claimed(made, t.signal);
    const getBytes: GetBytes = async (_, { signal }) => {
      await once(signal, 'abort');
      throw signal.reason;
    };
    const warnings: Warning[] = [];
    const onWarning = (warning: Warning): void => void warnings.push(warning);
    const asking = { ...made.context, getBytes, asksMembers: true, onWarning, timeoutMs: 4_000 };
    await using resolved = await resolveHashMap(address, asking);
    assert.equal(resolved.from, 'member');
    assert.match(
      warnings.map((warning) => warningSentence(warning)).join('\n'),
      /^no hash map from its mirror so far: .* is silent; using the edition of [^\n]+$/,
    );
  });

  test('does not wait for the end of the time if an edition is kept and no DHT node can be reached', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address, editionOf } = mirrored(made);
    const bootstrap = [{ host: '127.0.0.1', port: 1 }];
    const network = { scope: 'lan', listen: '127.0.0.1', lan: false, peers: [], dhtBootstrap: bootstrap } as const;
    for (const dht of [true, false]) {
      await using alone = await Network.join({ ...network, dht });
      const dir = await tempDir(t);
      await indexDirOf(dir, address).writeManifest(editionOf(2));
      const warnings: Warning[] = [];
      const onWarning = (warning: Warning): void => void warnings.push(warning);
      const { baseUrl: _, ...magnet } = address;
      const asking = { ...made.context, network: alone, dir, asksMembers: true, timeoutMs: 15_000, onWarning };
      await using resolved = await resolveHashMap(magnet, asking);
      assert.deepEqual([resolved.from, resolved.map.manifest.seq], ['kept', 2]);
      assert.match(
        warnings.map((warning) => warningSentence(warning)).join('\n'),
        dht
          ? /^no answer about the hash map magnet:.*: no node of the DHT can be reached: .*; using the kept edition of [^\n]+$/
          : /^the hash map magnet:.* needs the DHT, which is off: .*; using the kept edition of [^\n]+$/,
      );
    }
  });

  test('asks for no DHT, where it is off and a member has the kept edition', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { baseUrl: _, ...magnet } = mirrored(made).address;
    await claimed(made, t.signal);
    const warnings: Warning[] = [];
    const onWarning = (warning: Warning): void => void warnings.push(warning);
    const asking = { ...made.context, asksMembers: true, onWarning };
    await using first = await resolveHashMap(magnet, asking);
    assert.deepEqual([first.from, warnings], ['network', []]);
    await using again = await resolveHashMap(magnet, asking);
    assert.equal(again.from, 'kept');
    assert.match(
      warnings.map((warning) => warningSentence(warning)).join('\n'),
      /^only neighbours and named peers are asked about the hash map magnet:.*, since the DHT is off; using the kept edition of [^\n]+$/,
    );
  });

  test('a member without a newer edition does not take the place of a failed mirror', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address, editionOf } = mirrored(made);
    await claimed(made, t.signal);
    const { seq } = made.publisher.built.publication.manifest;
    const asking = { ...made.context, getBytes: () => Promise.resolve(undefined), asksMembers: true };
    for (const keptSeq of [seq, seq + 1]) {
      const dir = await tempDir(t);
      await indexDirOf(dir, address).writeManifest(editionOf(keptSeq));
      const warnings: Warning[] = [];
      const onWarning = (warning: Warning): void => void warnings.push(warning);
      await using resolved = await resolveHashMap(address, { ...asking, dir, onWarning });
      assert.deepEqual([resolved.from, resolved.map.manifest.seq], ['kept', keptSeq]);
      assert.deepEqual(
        warnings.map(({ kind }) => kind),
        ['kept-map'],
      );
    }
    await made.publisher[Symbol.asyncDispose]();
    await assert.rejects(resolveHashMap(address, asking), {
      code: 'INDEX_UNREACHABLE',
      message: /does not exist: check/,
    });
  });

  test('completes the kept edition from a member if the mirror fails', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address } = mirrored(made);
    await claimed(made, t.signal);
    const dir = indexDirOf(made.context.dir, address);
    const manifest = await published(made, MANIFEST_NAME);
    await dir.writeManifest(manifest);
    const right = await published(made, 'shards/all.zst');
    const asking = { ...made.context, getBytes: () => Promise.resolve(undefined), asksMembers: true };
    for (const there of [undefined, Buffer.from('damaged'), Buffer.concat([right, Buffer.of(0)])]) {
      if (there !== undefined) await dir.writeShard(ALL, there);
      await using resolved = await resolveHashMap(address, asking);
      assert.deepEqual([resolved.from, resolved.map.manifestBytes], ['kept', manifest]);
      await resolved.map.fetchAll(t.signal);
      assert.deepEqual(await dir.readShard(ALL), right);
    }
    await made.publisher[Symbol.asyncDispose]();
    await dir.writeShard(ALL, Buffer.from('damaged'));
    await using alone = await resolveHashMap(address, asking);
    await assert.rejects(alone.map.fetchAll(t.signal), { code: 'INDEX_UNREACHABLE', message: /does not exist: check/ });
  });

  test('reads the shards of a member if the mirror gives the manifest alone', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { address } = mirrored(made);
    await claimed(made, t.signal);
    const manifest = await published(made, MANIFEST_NAME);
    const right = await published(made, 'shards/all.zst');
    const wrong = Buffer.from(right);
    wrong.writeUInt8(wrong.readUInt8(20) ^ 1, 20);
    const silent = async (signal: AbortSignal): Promise<never> => {
      await once(signal, 'abort');
      throw signal.reason;
    };
    const answers: ((signal: AbortSignal) => Promise<Uint8Array | undefined>)[] = [
      () => Promise.resolve(undefined),
      () => Promise.reject(new NarswarmError('HTTP_TRUNCATED', 'cut')),
      () => Promise.resolve(wrong),
      () => Promise.resolve(right.subarray(0, 10)),
      silent,
    ];
    const resolvedWith = async (answer: (typeof answers)[number]): Promise<Resolved> => {
      const getBytes: GetBytes = async (url, { signal }) =>
        url.endsWith(MANIFEST_NAME) ? manifest : await answer(signal);
      return await resolveHashMap(address, { ...made.context, dir: await tempDir(t), getBytes });
    };
    for (const answer of answers) {
      await using resolved = await resolvedWith(answer);
      assert.equal(resolved.from, 'network');
      await resolved.map.fetchAll(t.signal);
      assert.equal(resolved.map.fetchedBytes, manifest.length + right.length);
    }
    await made.publisher[Symbol.asyncDispose]();
    await using alone = await resolvedWith(() => Promise.resolve(wrong));
    await assert.rejects(alone.map.fetchAll(t.signal), { code: 'INDEX_INVALID', message: /shards\/all\.zst/ });
  });

  test('never replaces a newer manifest of another process', async (t) => {
    const manifestOf = (seq: number): Uint8Array => signGolden({ seq });
    const dir = await tempDir(t);
    const publicKeyHex = Buffer.from(KEY.publicKey).toString('hex');
    const address = { publicKey: KEY.publicKey, publicKeyHex, salt: GOLDEN.salt, baseUrl: 'http://mirror.invalid' };
    await using resolved = await resolveHashMap(address, {
      network: undefined,
      getBytes: async () => {
        await indexDirOf(dir, address).writeManifest(manifestOf(44)); // the other process
        return manifestOf(43);
      },
      dir,
      now: NOW,
      timeoutMs: 20_000,
      signal: t.signal,
    });
    assert.equal(resolved.map.manifest.seq, 43);
    assert.deepEqual(await indexDirOf(dir, address).readManifest(), Buffer.from(manifestOf(44)));
  });
});

describe('resolveNamed', () => {
  test('reads an edition from the member that claims to hold it, and joins no swarm', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { publisher, follower, context } = made;
    const { address, torrent } = publisher.built.publication;
    const claim = await claimed(made, t.signal);
    assert.equal(claim.infoHash, torrent.infoHash);
    await using resolved = await resolveNamed(address, claim, context);
    await resolved.map.fetchAll(t.signal);
    assert.deepEqual(resolved.map.manifest.seq, claim.seq);
    assert.ok(resolved.map.fetchedBytes > resolved.map.manifestBytes.length, 'the shards came, too');
    assert.equal(follower.swarm.openTorrents, 0);
  });

  test('reads an edition from its torrent if the member gives no manifest with the seq of its claim', async (t) => {
    await using made = await scene(t, { dhtNodes: 0 });
    const { publisher, follower, context } = made;
    const { address } = publisher.built.publication;
    const { teller, infoHash, seq } = await claimed(made, t.signal);
    await using resolved = await resolveNamed(address, { teller, infoHash, seq: seq + 1 }, context);
    assert.deepEqual(resolved.map.manifest.seq, seq);
    assert.equal(follower.swarm.openTorrents, 1);
  });
});
