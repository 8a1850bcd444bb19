/** Readers of torrents that the same process has open already. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Swarm } from '../../src/swarm/swarm.ts';
import type { TorrentReader } from '../../src/swarm/torrent-reader.ts';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MAX_METADATA_BYTES, MAX_METADATA_SOURCES } from '../../src/wire/bounds.ts';
import { ID, startRawSeed } from '../support/raw-peer.ts';
import { makeNar, peersAt, startSeeder, startSwarm } from './swarm-fixture.ts';
import type { Warning } from '../../src/warning.ts';

const SIZE_BYTES = 300_000;

describe('Swarm.read', () => {
  const readFrom = async (t: TestContext, seeder: Swarm, infoHash: string): Promise<TorrentReader> => {
    const swarm = await startSwarm(t);
    const reader = await swarm.read(infoHash as never);
    for (const peer of peersAt(swarm, seeder.port)) reader.addPeer(peer);
    return reader;
  };

  test('reads a torrent that is being seeded from the seed, which continues afterwards', async (t) => {
    const nar = await makeNar(t, SIZE_BYTES);
    const warnings: Warning[] = [];
    const seeder = await startSeeder(t, [nar.seed], { onWarning: (warning) => warnings.push(warning) });
    const other = await readFrom(t, seeder, nar.torrent.infoHash);
    const limits = { maxBytes: SIZE_BYTES, signal: t.signal };
    await assert.rejects(other.readFile('none', limits), { code: 'INDEX_INVALID' }); // the metadata has arrived
    assert.equal(seeder.openTorrents, 1);

    const own = await seeder.read(nar.torrent.infoHash);
    await assert.rejects(own.readFile('none', limits), { code: 'INDEX_INVALID' });
    await own.close();
    assert.equal(seeder.openTorrents, 1, 'the seed is still known');

    const third = await readFrom(t, seeder, nar.torrent.infoHash);
    await assert.rejects(third.readFile('none', limits), { code: 'INDEX_INVALID' });
    assert.deepEqual(warnings, []);
  });

  test('a handshake for a torrent that cannot be opened ends only that connection', async (t) => {
    const nar = await makeNar(t, SIZE_BYTES);
    const broken = { torrent: Buffer.from('no torrent'), files: [] };
    const warned = Promise.withResolvers<void>();
    const seeder = await startSwarm(t, {
      seeds: (infoHash) => Promise.resolve(infoHash === nar.torrent.infoHash ? nar.seed : broken),
      onWarning: ({ kind }) => {
        if (kind === 'failed-seed') warned.resolve();
      },
    });
    await readFrom(t, seeder, 'ab'.repeat(20));
    await warned.promise; // an unhandled rejection would have failed this test
    const reader = await readFrom(t, seeder, nar.torrent.infoHash);
    await assert.rejects(reader.readFile('none', { maxBytes: 1, signal: t.signal }), { code: 'INDEX_INVALID' });
  });

  test(
    'many peers that claim large metadata cost little memory, and an honest one is heard',
    { timeout: 180_000 },
    async (t) => {
      const nar = await makeNar(t, SIZE_BYTES);
      const { infoHash } = nar.torrent;
      const claims = await Promise.all(
        Array.from({ length: 60 }, () =>
          startRawSeed(infoHash, (peer) =>
            peer.extended(0, `d1:md11:ut_metadatai3ee13:metadata_sizei${MAX_METADATA_BYTES}ee`),
          ),
        ),
      );
      t.after(() => Promise.all(claims.map((claim) => claim[Symbol.asyncDispose]())));
      const swarm = await startSwarm(t);
      const reader = await swarm.read(infoHash);
      const asked = (): number =>
        claims.filter(({ peers }) =>
          peers[0]?.messages.some(({ id, payload }) => id === ID.EXTENDED && payload[0] === 3),
        ).length;
      for (const peer of peersAt(swarm, ...claims.map(({ port }) => port))) reader.addPeer(peer);
      while (asked() < MAX_METADATA_SOURCES) await nextTurn();
      for (const { peers } of claims) await peers[0]?.receive(ID.EXTENDED);
      assert.equal(asked(), MAX_METADATA_SOURCES);
      for (const claim of claims.slice(0, 57)) for (const { socket } of claim.peers) socket.destroy();
      const seeder = await startSeeder(t, [nar.seed]);
      for (const peer of peersAt(swarm, seeder.port)) reader.addPeer(peer);
      await assert.rejects(reader.readFile('none', { maxBytes: SIZE_BYTES, signal: t.signal }), {
        code: 'INDEX_INVALID',
      });
    },
  );
});
