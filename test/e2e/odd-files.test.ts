/** Right NARs in other files than those that a hash map lists. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { execa } from 'execa';
import { buildIndex, writeIndex } from '../index/built-index.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { formatPublisherAddress } from '../../src/index/address.ts';
import { toRecord } from '../../src/index/record.ts';
import { PIECE_HASH_BYTES, extensionOf, narTorrent, pieceLengthOf } from '../../src/torrent/canonical.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf, readNarInfos } from '../support/lab.ts';

suite('files other than the hash map’s', () => {
  test('a fetch succeeds if its publisher compressed otherwise than the upstream and is gone', async () => {
    await using lab = await Lab.open();
    const made = await lab.closure([50_000, 3_000]);
    const other = await lab.folder('recompressed');
    const nix = ['--extra-experimental-features', 'nix-command', 'copy', '--from', `file://${made.cacheDir}`];
    await execa('nix', [...nix, '--to', `file://${other}?compression=bzip2`, made.root], {
      env: { HOME: await lab.folder('home') },
    });
    const trust = ['--trusted-public-key', made.publicKey];
    const published = await lab.run([
      'publish',
      '--once',
      '--store',
      other,
      '--key',
      lab.path('key'),
      '--root',
      `lab=${made.root}`,
      ...trust,
    ]);
    assert.equal(published.status, 0, published.stderr);
    const event = published.event('published');
    await using mirror = await startHttpCache(String(event['dir']));
    await using cache = await startHttpCache(made.cacheDir);
    const store = await lab.folder('client');
    const publisher = mirrorOf(String(event['address']), mirror.url);
    const fetch = [
      'fetch',
      'lab',
      '--publisher',
      publisher,
      '--from',
      cache.url,
      '--no-copy',
      '--store',
      store,
      ...trust,
      ...ALONE,
    ];
    const run = await lab.run(fetch);
    assert.equal(run.status, 0, run.stderr);
    for (const info of (await readNarInfos(store)).values()) assert.equal(info.compression, 'xz');
    const again = await lab.run(fetch);
    assert.equal(again.event('done')['nars'], 0, 'nothing is fetched twice');
  });

  test('wrong pieces of a hash map are not stored with a NAR that came from a cache', async () => {
    await using lab = await Lab.open();
    const made = await lab.closure([2_000_000, 3_000]);
    const key = publisherKeyFromSeed(Buffer.alloc(32, 7));
    const records = [...(await readNarInfos(made.cacheDir)).values()].map((info) => {
      const count = Math.ceil(info.fileSize! / pieceLengthOf(info.fileSize!));
      const pieces = Buffer.alloc(count * PIECE_HASH_BYTES, 1);
      const torrent = narTorrent({
        fileHash: info.fileHash!,
        extension: extensionOf(info.compression),
        sizeBytes: info.fileSize!,
        pieces,
      });
      return toRecord(info, torrent);
    });
    const dir = new IndexDir(await lab.folder('map'));
    const now = Math.floor(Date.now() / 1000) * 1000;
    await writeIndex(
      dir,
      await buildIndex({
        records,
        roots: [{ name: 'lab', path: made.root }],
        salt: '',
        seq: 1,
        created: new Date(now),
        expires: new Date(now + 3_600_000),
        storeDir: '/nix/store',
        peers: [],
        trackers: [],
        key,
      }),
    );
    await using mirror = await startHttpCache(dir.dir);
    await using cache = await startHttpCache(made.cacheDir);
    const address = formatPublisherAddress({ publicKeyHex: Buffer.from(key.publicKey).toString('hex'), salt: '' });
    const store = await lab.folder('client');
    const run = await lab.run([
      'fetch',
      'lab',
      '--publisher',
      mirrorOf(address, mirror.url),
      '--from',
      cache.url,
      '--no-copy',
      '--store',
      store,
      '--trusted-public-key',
      made.publicKey,
      ...ALONE,
    ]);
    assert.equal(run.status, 0, run.stderr);
    await assertSound(store, made.publicKey);
    const catalogue = await readFile(join(store, 'narswarm', 'catalogue.jsonl'), 'utf8');
    const wrong = Buffer.alloc(PIECE_HASH_BYTES, 1).toString('base64');
    assert.ok(!catalogue.includes(wrong), 'the map’s pieces stand in the catalogue');
  });
});
