/** The gate: paths that nobody requested, or no trusted key signed, are neither published nor served. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { parsePublisherAddress } from '../../src/index/address.ts';
import { cohortInfoHash } from '../../src/index/cohort-key.ts';
import { asFileHash } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { entryOf, formatEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { parseEndpoint } from '../../src/discovery/endpoint.ts';
import type { Member } from '../../src/exchange/member.ts';
import { prefixOf } from '../../src/exchange/messages/messages.ts';
import { startMember } from '../exchange/exchange-fixture.ts';
import { Network } from '../../src/swarm/network.ts';
import { answersHandshake, untilServed } from '../support/handshake.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, mirrorOf, readNarInfos, torrentIn } from '../support/lab.ts';

describe('private paths', () => {
  let lab: Lab;
  let made: MadeClosure;
  /** A closure that another key signed: a private build that lies in the same cache. */
  let secret: MadeClosure;
  /** The cache of `made` with `secret` in it. */
  let store: string;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([30_000, 5_000]);
    secret = await lab.closure([20_000], 'secret');
    store = await lab.folder('store');
    await cp(made.cacheDir, store, { recursive: true });
    await cp(secret.cacheDir, store, { recursive: true });
  });
  after(() => lab[Symbol.asyncDispose]());

  const infoHashes = async (cacheDir: string, root: RegExp): Promise<string[]> => {
    const infos = [...(await readNarInfos(cacheDir)).values()].filter(({ storePath }) => root.test(storePath));
    return Promise.all(infos.map(async (info) => (await torrentIn(cacheDir, info)).infoHash));
  };
  const answers = async (port: unknown, hashes: readonly string[]): Promise<boolean[]> =>
    Promise.all(hashes.map((infoHash) => answersHandshake(Number(port), infoHash)));
  const shardsOf = async (dir: string): Promise<string> => {
    const names = await readdir(join(dir, 'shards'));
    const texts = names.map(async (name) => zstdDecompressSync(await readFile(join(dir, 'shards', name))).toString());
    return (await Promise.all(texts)).join('\n');
  };

  test('members are asked only for shared NARs, though others are wanted, too', async () => {
    const publisher = `magnet:?xs=urn:btpk:${'7a'.repeat(32)}`;
    const { publicKey, salt } = parsePublisherAddress(publisher);
    await using member = await startMember({ group: cohortInfoHash(publicKey, salt) });
    const heard = new Set<string>();
    member.offer.holds = (prefix) => {
      heard.add(prefix);
      return undefined;
    };
    const cache = lab.use(await startHttpCache(store));
    cache.faults = [{ match: /\.nar\./, kind: 'slow', rateBytesPerSec: 30_000 }];
    const run = await lab.run([
      'fetch',
      made.root,
      secret.root,
      '--store',
      await lab.folder('wanted'),
      '--from',
      cache.url,
      '--trusted-public-key',
      made.publicKey,
      '--trusted-public-key',
      secret.publicKey,
      '--share-keys',
      made.publicKey,
      '--publisher',
      publisher,
      '--peer',
      `127.0.0.1:${member.port}`,
      '--no-copy',
      ...ALONE,
    ]);
    assert.equal(run.status, 0, run.stderr);
    /** Each NAR has two names: that of its file, and that of the uncompressed NAR. */
    const prefixesOf = async ({ cacheDir }: MadeClosure): Promise<string[]> =>
      [...(await readNarInfos(cacheDir)).values()]
        .flatMap(({ fileHash, narHash }) => [prefixOf(fileHash!), prefixOf(asFileHash(narHash))])
        .toSorted();
    assert.deepEqual([...heard].toSorted(), await prefixesOf(made));
  });

  test('publishing all of a store leaves out what no trusted key has signed', async () => {
    const { process, ready } = await lab.service([
      'publish',
      '--store',
      store,
      '--key',
      lab.path('key'),
      '--trusted-public-key',
      made.publicKey,
      ...ALONE,
    ]);
    const built = await process.event('built');
    assert.deepEqual([built['records'], built['leftOut']], [4, 2]);
    const [dir = ''] = (await readdir(join(store, 'narswarm', 'published'))).map((name) =>
      join(store, 'narswarm', 'published', name),
    );
    const text = await shardsOf(dir);
    assert.match(text, /-lab-blob-0/);
    assert.doesNotMatch(text, /secret/);
    assert.deepEqual(await answers(ready['port'], await infoHashes(made.cacheDir, /lab/)), [true, true, true, true]);
    assert.deepEqual(await answers(ready['port'], await infoHashes(secret.cacheDir, /secret/)), [false, false]);
    await process.stop();
  });

  test('a member of the cohort gets no more than a stranger', async () => {
    const publisher = await lab.publisher({ ...made, cacheDir: store }, ALONE);
    const { publicKey, salt } = parsePublisherAddress(publisher.address);
    const network = lab.use(
      await Network.join({
        scope: 'lan',
        listen: '127.0.0.1',
        peers: [parseEndpoint(publisher.peer)],
        dht: false,
        lan: false,
      }),
    );
    network.joinCohort(cohortInfoHash(publicKey, salt));
    const [member] = (await once(network.members, 'member')) as [Member];
    const asked = async (cacheDir: string, name: RegExp): Promise<boolean[]> => {
      const infos = [...(await readNarInfos(cacheDir)).values()].filter(({ storePath }) => name.test(storePath));
      const served: boolean[] = [];
      for (const { fileHash, fileSize } of infos) {
        assert.ok(fileHash !== undefined && fileSize !== undefined);
        const range = { file: fileHash, from: 0, length: fileSize };
        served.push((await member.get(range, () => undefined, new AbortController().signal)) === 'complete');
      }
      return served;
    };
    assert.deepEqual(await asked(made.cacheDir, /lab/), [true, true, true, true]);
    assert.deepEqual(await asked(secret.cacheDir, /secret/), [false, false]);
  });

  test('publishing a root serves its closure and nothing beside it, signed or not', async () => {
    const fresh = await lab.folder('store');
    await cp(made.cacheDir, fresh, { recursive: true });
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const small = infos.find(({ storePath }) => storePath.endsWith('-lab-0'));
    assert.ok(small !== undefined);
    const root = ['--root', `small=${small.storePath}`, '--trusted-public-key', made.publicKey];
    const { ready, process } = await lab.service([
      'publish',
      '--store',
      fresh,
      '--key',
      lab.path('key'),
      ...root,
      ...ALONE,
    ]);
    assert.equal((await process.event('built'))['records'], 2);
    assert.deepEqual(await answers(ready['port'], await infoHashes(made.cacheDir, /lab-0|blob-0/)), [true, true]);
    assert.deepEqual(await answers(ready['port'], await infoHashes(made.cacheDir, /lab-1|blob-1/)), [false, false]);
  });

  test('a daemon serves fetched paths only, and none of them once their key is distrusted', async () => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const own = await lab.folder('store');
    await cp(secret.cacheDir, own, { recursive: true });
    const both = ['--trusted-public-key', made.publicKey, '--trusted-public-key', secret.publicKey];
    const sharing = ['--share-keys', made.publicKey, '--share-keys', secret.publicKey];
    const { ready } = await lab.service(['daemon', '--store', own, ...both, ...sharing, ...ALONE]);
    const fetched = await lab.run([
      'fetch',
      made.root,
      '--store',
      own,
      '--from',
      cache.url,
      '--no-copy',
      ...both,
      ...ALONE,
    ]);
    assert.equal(fetched.status, 0, fetched.stderr);
    const shared = await infoHashes(made.cacheDir, /lab/);
    for (const infoHash of shared) await untilServed(Number(ready['port']), infoHash);
    assert.deepEqual(await answers(ready['port'], await infoHashes(secret.cacheDir, /secret/)), [false, false]);

    // A key that is only trusted shares nothing, content-addressed or not.
    const trusting = await lab.service(['daemon', '--store', own, ...both, ...ALONE]);
    assert.deepEqual(
      await answers(trusting.ready['port'], shared),
      shared.map(() => false),
    );

    const other = `other-1:${Buffer.alloc(32, 1).toString('base64')}`;
    const distrusting = await lab.service(['daemon', '--store', own, '--trusted-public-key', other, ...ALONE]);
    assert.deepEqual(
      await answers(distrusting.ready['port'], shared),
      shared.map(() => false),
    );
  });

  test('a NAR that was changed after it was hashed is not served', async () => {
    const dir = await lab.folder('store');
    await cp(made.cacheDir, dir, { recursive: true });
    const { ready } = await lab.service([
      'publish',
      '--store',
      dir,
      '--key',
      lab.path('key'),
      '--trusted-public-key',
      made.publicKey,
      ...ALONE,
    ]);
    const hashes = await infoHashes(made.cacheDir, /-lab-blob-1/);
    const info = [...(await readNarInfos(dir)).values()].find(({ storePath }) => storePath.endsWith('-lab-blob-1'));
    assert.ok(info !== undefined);
    await writeFile(join(dir, info.url), Buffer.alloc(info.fileSize ?? 0));
    assert.deepEqual(await answers(ready['port'], hashes), [false]);
  });

  test('the mirror gives the hash map and nothing else of the store', async () => {
    const dir = await lab.folder('store');
    await cp(made.cacheDir, dir, { recursive: true });
    const { mirror, ready } = await lab.publisher({ ...made, cacheDir: dir }, ALONE);
    const base = `http://127.0.0.1:${String(ready['httpPort'])}`;
    /** Sends the path unchanged: a URL parser would remove the dots. */
    const status = async (path: string): Promise<number | undefined> => {
      const [response] = (await once(get({ port: Number(ready['httpPort']), path }), 'response')) as [IncomingMessage];
      response.destroy();
      return response.statusCode;
    };
    assert.equal(await status('/manifest'), 200);
    assert.equal(await status('/shards/all.zst'), 200);
    const [info] = [...(await readNarInfos(dir)).values()];
    for (const path of [
      `/${info?.url ?? ''}`,
      '/../catalogue.jsonl',
      '/shards/../../../nix-cache-info',
      '/nix-cache-info',
      '/',
    ])
      assert.equal(await status(path), 404, path);
    assert.equal(mirror, mirrorOf(String(ready['address']), base));
  });

  /** A cache that names the NAR of one path in the unsigned fields of another, and has no NARs of its own. */
  const lyingCache = async (about: string, naming: string): Promise<string> => {
    const dir = await lab.folder('liar');
    await cp(made.cacheDir, dir, { recursive: true });
    await rm(join(dir, 'nar'), { recursive: true });
    const all = new Map([...(await readNarInfos(made.cacheDir)), ...(await readNarInfos(secret.cacheDir))]);
    const found = (end: string): NarInfo => [...all.values()].find(({ storePath }) => storePath.endsWith(end))!;
    const { url, compression, fileHash, fileSize } = found(naming);
    assert.ok(fileHash !== undefined && fileSize !== undefined);
    const lie = { ...found(about), url, compression, fileHash, fileSize };
    await writeFile(join(dir, `${storeHashOf(lie.storePath)}.narinfo`), formatNarInfo(lie));
    return lab.use(await startHttpCache(dir)).url;
  };

  test('a signed narinfo that names the FileHash of a private NAR does not give it away', async () => {
    const own = await lab.folder('store');
    await cp(secret.cacheDir, own, { recursive: true });
    const url = await lyingCache('-lab-blob-0', '-secret-blob-0');
    const flags = ['--store', own, '--trusted-public-key', made.publicKey, ...ALONE];
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    const leaf = infos.find(({ storePath }) => storePath.endsWith('-lab-blob-0'))!.storePath;
    const hashes = await infoHashes(secret.cacheDir, /secret-blob/);

    const published = await lab.run([
      'publish',
      '--once',
      '--key',
      lab.path('key-of-victim'),
      '--from',
      url,
      '--root',
      `leaf=${leaf}`,
      ...flags,
    ]);
    assertFailure(
      published,
      5,
      'NAR_UNAVAILABLE',
      /1 of 1 NARs could not be fetched: .* does not have the signed contents/,
    );
    assert.ok((await readNarInfos(own)).size === 2, 'nothing of the lie is in the store');
    assert.equal((await readdir(join(own, 'nar'))).length, 2, 'the private NAR stays');

    // A catalogue of an earlier version, which did not check contents.
    const catalogue = join(own, 'narswarm', 'catalogue.jsonl');
    const secretInfo = [...(await readNarInfos(secret.cacheDir)).values()].find(({ storePath }) =>
      storePath.endsWith('-secret-blob-0'),
    )!;
    const torrent = await torrentIn(secret.cacheDir, secretInfo);
    const lie = infos.find(({ storePath }) => storePath === leaf)!;
    const { url: narUrl, compression, fileHash, fileSize } = secretInfo;
    await writeFile(
      join(own, `${storeHashOf(leaf)}.narinfo`),
      formatNarInfo({ ...lie, url: narUrl, compression, fileHash: fileHash!, fileSize: fileSize! }),
    );
    const { mtimeMs } = await stat(join(own, narUrl));
    await writeFile(catalogue, `${formatEntry(entryOf(torrent, leaf, Math.floor(mtimeMs), 'fetch'))}\n`);
    const { ready, process } = await lab.service(['daemon', ...flags]);
    assert.deepEqual(await answers(ready['port'], hashes), [false]);
    await process.event('warning', ({ message }) => String(message).includes('does not have the signed contents'));
    assert.deepEqual(await answers(ready['port'], hashes), [false]);
    const again = await lab.run([
      'publish',
      '--once',
      '--key',
      lab.path('key-of-victim'),
      '--root',
      `leaf=${leaf}`,
      ...flags,
    ]);
    assertFailure(again, 3, 'ROOT_UNKNOWN', /does not have the signed contents/);
    await process.stop();
  });

  test('garbage in place of a NAR is not kept, and the NAR comes from the next cache', async () => {
    const url = await lyingCache('-lab-blob-1', '-lab-blob-0');
    const honest = lab.use(await startHttpCache(made.cacheDir));
    const own = await lab.folder('store');
    const target = ['--store', own, '--trusted-public-key', made.publicKey, '--no-copy', ...ALONE];
    const fetched = await lab.run(['fetch', made.root, '--from', url, '--from', honest.url, ...target]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal(
      (await lab.run(['verify', '--deep', '--store', own, '--trusted-public-key', made.publicKey])).status,
      0,
    );
    const { ready, process } = await lab.service([
      'daemon',
      '--store',
      own,
      '--trusted-public-key',
      made.publicKey,
      '--share-keys',
      made.publicKey,
      ...ALONE,
    ]);
    for (const infoHash of await infoHashes(made.cacheDir, /lab/)) await untilServed(Number(ready['port']), infoHash);
    await process.stop();
  });
});
