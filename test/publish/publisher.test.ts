/** A publisher renews its hash map while followers read the edition before. */
import assert from 'node:assert/strict';
import { access, mkdir, rename, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildPublication, type Built } from '../../src/publish/build-publication.ts';
import { Publisher, type PublisherOptions } from '../../src/publish/publisher.ts';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { MANIFEST_NAME } from '../../src/index/files/index-torrent.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { Turn } from '../../src/store/turn.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { Swarm } from '../../src/swarm/swarm.ts';
import { Lab } from '../support/lab.ts';
import { failOnWarning } from '../support/no-warnings.ts';

describe('Publisher', () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([60_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const options = async (): Promise<PublisherOptions> => ({
    store: await FileStore.open(made.cacheDir, { create: true }),
    key: publisherKeyFromSeed(Buffer.alloc(32, 7)),
    salt: '',
    contents: () => Promise.resolve({ named: new Map([['lab', made.root]]), unnamed: [] }),
    keys: [parsePublicKey(made.publicKey)],
    validForMs: 4_000,
    hints: [],
    signal: new AbortController().signal,
    network: { scope: 'lan', listen: '127.0.0.1', dht: false, lan: false, peers: [] },
    httpPorts: [0],
    onWarning: failOnWarning,
  });

  test('reports the publication of another process of the same store once', async () => {
    let contents = { named: new Map([['lab', made.root]]), unnamed: [] };
    const renewed: number[] = [];
    const base = {
      ...(await options()),
      salt: 'shared',
      validForMs: 3_600_000,
      contents: () => Promise.resolve(contents),
      onRenewed: ({ publication }: Built) => renewed.push(publication.manifest.seq),
    };
    await using publisher = await Publisher.start(base);
    contents = { named: new Map([...contents.named, ['again', made.root]]), unnamed: [] };
    const { publication } = await buildPublication({ ...base, keepsHints: true }); // as an update does
    assert.equal(publication.isNew, true);
    assert.equal(await publisher.rebuild(), true);
    assert.equal(await publisher.rebuild(), true);
    assert.deepEqual(renewed, [publication.manifest.seq]);
    assert.equal(publisher.built.publication.torrent.infoHash, publication.torrent.infoHash);
  });

  test('offers the edition on the disk after other processes have replaced its own twice', async () => {
    const last = Promise.withResolvers<void>();
    let lastSeq = Infinity;
    const base = { ...(await options()), salt: 'replaced', validForMs: 3_600_000 };
    const onRenewed = ({ publication }: Built): void => {
      if (publication.manifest.seq >= lastSeq) last.resolve();
    };
    await using publisher = await Publisher.start({ ...base, onRenewed });
    const write = async (hint: string): Promise<number> => {
      const { publication } = await buildPublication({ ...base, hints: [hint] });
      assert.equal(publication.isNew, true);
      return publication.manifest.seq;
    };
    const offered = async (): Promise<number> => {
      const { seed, manifest } = publisher.built.publication;
      for (const { path } of seed.files) await access(path);
      return manifest.seq;
    };
    await write('127.0.0.1:1');
    const second = await write('127.0.0.1:2');
    await publisher.look();
    await publisher.look(); // the first one does nothing if another look began to take it over meanwhile
    assert.equal(await offered(), second);
    lastSeq = await write('127.0.0.1:3');
    if (publisher.built.publication.manifest.seq < lastSeq) await last.promise; // it looks by itself
    assert.equal(await offered(), lastSeq);
  });

  test('goes on if the edition on the disk cannot be read', async () => {
    const base = { ...(await options()), salt: 'unreadable', validForMs: 3_600_000 };
    await using publisher = await Publisher.start(base);
    const { dir, seed } = publisher.built.publication;
    const manifest = join(dir.dir, MANIFEST_NAME);
    await rename(manifest, `${manifest}.away`);
    await mkdir(manifest);
    await sleep(1_500); // it looks once a second; an error that nobody handles would end this process
    await rmdir(manifest);
    await rename(`${manifest}.away`, manifest);
    for (const { path } of seed.files) await access(path);
    assert.equal(await publisher.rebuild(), true);
  });

  test('puts its pointer into the DHT again while another process publishes for long', async () => {
    const { bootstrap } = await lab.dht(3);
    const base = { ...(await options()), salt: 'pointer' };
    await using publisher = await Publisher.start({
      ...base,
      network: { ...base.network, dht: true, dhtBootstrap: bootstrap },
    });
    const { signal } = new AbortController();
    await using _ = await Turn.wait(base.store, 'publishing', { signal });
    for (const _round of [1, 2, 3]) {
      publisher.dhtNodes = 0;
      while (publisher.dhtNodes === 0) await sleep(50);
    }
  });

  test('still serves the previous edition to its readers', async () => {
    const renewed = Promise.withResolvers<void>();
    await using publisher = await Publisher.start({ ...(await options()), onRenewed: () => renewed.resolve() });
    await using swarm = await Swarm.listen({ host: '127.0.0.1' });
    const peer = swarm.peers.add({ host: '127.0.0.1', port: publisher.network.swarm.port });
    const { infoHash } = publisher.built.publication.torrent;
    const manifest = await publisher.built.publication.dir.readManifest();
    const reader = await swarm.read(infoHash);
    reader.addPeer(peer);
    const signal = AbortSignal.timeout(20_000);
    await assert.rejects(reader.readFile('none', { maxBytes: 1, signal }), { code: 'INDEX_INVALID' }); // connected
    await renewed.promise;
    assert.notEqual(publisher.built.publication.torrent.infoHash, infoHash);
    assert.deepEqual(Buffer.from(await reader.readFile('manifest', { maxBytes: 1e6, signal })), manifest);
    assert.equal(peer.banned, undefined);
  });
});
