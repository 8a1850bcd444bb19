import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { OfferedFile } from '../../src/exchange/answers/offer.ts';
import { prefixOf } from '../../src/exchange/messages/messages.ts';
import { IndexServer, type ServedMaps } from '../../src/publish/index-server.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import type { Serves } from '../../src/discovery/connection-guard.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { tempDir } from '../store/store-fixture.ts';

const MAP = `${'0'.repeat(64)}-0`;

describe('the HTTP mirror of a hash map', () => {
  /** Serves a manifest, and these patches. @returns its URL */
  const serve = async (
    t: TestContext,
    { serves = 'lan', openPatch = async () => undefined }: Partial<ServedMaps> & { serves?: Serves } = {},
  ): Promise<string> => {
    const own = new IndexDir(await tempDir(t));
    await own.writeManifest(Buffer.from('signed'));
    const maps = { own, dirOf: (map: string) => (map === MAP ? own : undefined), openPatch };
    const server = await IndexServer.listen(maps, { host: '127.0.0.1', serves });
    t.after(() => server.close());
    return `http://127.0.0.1:${server.port}`;
  };

  test('serves a neighbour in the scope lan', async (t) => {
    const response = await fetch(`${await serve(t)}/manifest`);
    assert.equal(await response.text(), 'signed');
  });

  test('refuses a host outside the scope before it sends a byte', async (t) => {
    await assert.rejects(fetch(`${await serve(t, { serves: 'nobody' })}/manifest`));
  });

  describe('patches', () => {
    const bytes = randomBytes(150_000); // several chunks
    const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
    const name = `nar/${fileHash}.nar.delta`;
    let open = 0;
    const openPatch: ServedMaps['openPatch'] = async (file) => {
      if (file !== fileHash) return undefined;
      open++;
      const read: OfferedFile['read'] = async (target, offset) => {
        target.set(bytes.subarray(offset, offset + target.length));
      };
      const dispose = async (): Promise<void> => void open--;
      return { prefix: prefixOf(file), sizeBytes: bytes.length, read, [Symbol.asyncDispose]: dispose };
    };
    const bodyOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer());

    test('are served beside each map that names them, whole or in part, and may be kept for ever', async (t) => {
      const url = await serve(t, { openPatch });
      for (const base of [url, `${url}/maps/${MAP}`]) {
        const whole = await fetch(`${base}/${name}`);
        assert.equal(whole.status, 200);
        assert.match(whole.headers.get('cache-control') ?? '', /immutable/);
        assert.ok((await bodyOf(whole)).equals(bytes));
        const part = await fetch(`${base}/${name}`, { headers: { range: 'bytes=100000-' } });
        assert.equal(part.status, 206);
        assert.equal(part.headers.get('content-range'), `bytes 100000-149999/150000`);
        assert.ok((await bodyOf(part)).equals(bytes.subarray(100_000)));
      }
      const beyond = await fetch(`${url}/${name}`, { headers: { range: 'bytes=150000-' } });
      assert.equal(beyond.status, 416);
      const head = await fetch(`${url}/${name}`, { method: 'HEAD' });
      assert.equal(head.headers.get('content-length'), '150000');
      assert.equal(open, 0, 'files that were left open');
    });

    test('are not there if others may not have them, under other names, or beside a map that is not here', async (t) => {
      const url = await serve(t, { openPatch });
      const other = fileHashOf(Buffer.alloc(32));
      const others = [
        `nar/${other}.nar.delta`,
        `nar/${fileHash}.nar.xz`,
        `nar/${fileHash}.nar`,
        `nar/${'e'.repeat(52)}.nar.delta`,
        `maps/${'1'.repeat(64)}-0/${name}`,
        `shards/${name}`,
      ];
      for (const path of others) assert.equal((await fetch(`${url}/${path}`)).status, 404, path);
      assert.equal((await fetch(`${url}/${name}`, { method: 'POST' })).status, 404);
    });

    test('end the connection if the file is cut short', async (t) => {
      const url = await serve(t, {
        openPatch: async (file) => {
          const opened = await openPatch(file);
          const read: OfferedFile['read'] = async (target, offset) => {
            if (offset > 100_000) throw new RangeError('the file is shorter than it was');
            await opened?.read(target, offset);
          };
          return opened && { ...opened, read };
        },
      });
      const { promise, resolve } = Promise.withResolvers<boolean>();
      request(`${url}/${name}`, (response) => {
        response.resume();
        response.on('error', () => undefined);
        response.once('close', () => resolve(response.complete));
      }).end();
      assert.equal(await promise, false);
    });
  });
});
