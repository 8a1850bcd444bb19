/** The end of a daemon, and its report. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon } from '../../src/daemon/daemon.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { pendingEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { hashNar } from '../../src/store/hashing/hash-nar.ts';
import { cohortInfoHash } from '../../src/index/cohort-key.ts';
import { KEY } from '../index/fixtures.ts';
import { emptyStore } from '../store/store-fixture.ts';
import type { Warning } from '../../src/warning.ts';

/** Entries that take longer to read than the daemon takes to stop. */
const NAR_BYTES = 80 * 1024 * 1024;

describe('Daemon', () => {
  const start = (store: FileStore, signal: AbortSignal, warnings: Warning[]): Promise<Daemon> =>
    Daemon.start({
      store,
      keys: [],
      publishers: [],
      network: { scope: 'lan', listen: '127.0.0.1', dht: false, lan: false, peers: [] },
      signal,
      onWarning: (warning) => warnings.push(warning),
    });

  const storeWithPendingNar = async (t: TestContext): Promise<FileStore> => {
    const store = await emptyStore(t);
    const temporary = join(store.dir, 'nar.tmp');
    await writeFile(temporary, randomBytes(NAR_BYTES));
    const hashes = await hashNar(temporary);
    assert.ok(hashes !== undefined);
    await rename(temporary, join(store.dir, 'nar', `${hashes.fileHash}.nar.xz`));
    const path = parseStorePath(`/nix/store/${'1'.repeat(32)}-x`);
    await new Catalogue(store).add([pendingEntry({ ...hashes, extension: 'xz' }, path, 'fetch')]);
    return store;
  };
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

  test(
    'leaves the followers of a publisher that it no longer follows, and joins them again',
    { timeout: 180_000 },
    async (t) => {
      const publicKey = KEY.publicKey;
      const [kept, gone] = ['kept', 'gone'].map((salt) => ({
        address: { publicKey, publicKeyHex: Buffer.from(publicKey).toString('hex'), salt },
        group: cohortInfoHash(publicKey, salt),
      }));
      assert.ok(kept !== undefined && gone !== undefined);
      const stop = new AbortController();
      let wanted = [kept, gone];
      await using daemon = await Daemon.start({
        store: await emptyStore(t),
        keys: [],
        publishers: [],
        alsoFollow: async () => wanted.map(({ address }) => address),
        network: { scope: 'lan', listen: '127.0.0.1', dht: false, lan: false, peers: [] },
        signal: stop.signal,
        onWarning: () => undefined,
      });
      const { members, discovery } = daemon.network;
      assert.deepEqual([...members.groups], [kept.group, gone.group]);
      const unfollowed = t.mock.method(discovery, 'unfollow');
      wanted = [kept];
      while (members.groups.has(gone.group)) await sleep(20, undefined, { signal: t.signal });
      assert.deepEqual([...members.groups], [kept.group]);
      assert.deepEqual(
        unfollowed.mock.calls.map(({ arguments: [group] }) => group),
        [gone.group],
        'it is announced on the local network no longer',
      );
      wanted = [kept, gone];
      while (!members.groups.has(gone.group)) await sleep(20, undefined, { signal: t.signal });
      stop.abort();
    },
  );

  test('gives no warning if it is interrupted while it reads NARs', async (t) => {
    const warnings: Warning[] = [];
    const stop = new AbortController();
    await using daemon = await start(await storeWithPendingNar(t), stop.signal, warnings);
    stop.abort(new Error('interrupted'));
    await sleep(300); // nothing reports that the daemon's own work has ended
    await daemon.close();
    assert.deepEqual(warnings, []);
  });

  test('does nothing more once it is closed', async (t) => {
    const warnings: Warning[] = [];
    const before = timers();
    const daemon = await start(await storeWithPendingNar(t), new AbortController().signal, warnings);
    await daemon.close(); // while the catalogue is being read
    await sleep(500);
    assert.equal(timers(), before);
    assert.deepEqual(warnings, []);
  });
});
