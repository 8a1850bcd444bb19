import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { IndexServer } from '../../src/publish/index-server.ts';
import { IndexDir } from '../../src/index/index-dir.ts';
import type { Serves } from '../../src/discovery/connection-guard.ts';
import { tempDir } from '../store/store-fixture.ts';

describe('the HTTP mirror of a hash map', () => {
  const serve = async (t: TestContext, serves: Serves): Promise<string> => {
    const dir = new IndexDir(await tempDir(t));
    await dir.writeManifest(Buffer.from('signed'));
    const server = await IndexServer.listen({ own: dir, dirOf: () => undefined }, { host: '127.0.0.1', serves });
    t.after(() => server.close());
    return `http://127.0.0.1:${server.port}/manifest`;
  };

  test('serves a neighbour in the scope lan', async (t) => {
    const response = await fetch(await serve(t, 'lan'));
    assert.equal(await response.text(), 'signed');
  });

  test('refuses a host outside the scope before it sends a byte', async (t) => {
    await assert.rejects(fetch(await serve(t, 'nobody')));
  });
});
