import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import type { FileStore } from '../../../src/store/file-store.ts';
import { type FetchedList, fetchList } from '../../../src/subscription/source/fetch-list.ts';
import { failsWith } from '../../nix/fixtures.ts';
import { emptyStore } from '../../store/store-fixture.ts';
import { type Handler, type Site, startSite } from '../../support/http-site.ts';

const A = '/nix/store/00000000000000000000000000000000-a';
const B = '/nix/store/11111111111111111111111111111111-b';

/** Answers with a body and its ETag, or with 304 to a client that has this ETag. */
const serve =
  (body: string): Handler =>
  ({ headers }, response) => {
    const etag = `"${body.length}"`;
    if (headers['if-none-match'] === etag) response.writeHead(304).end();
    else response.writeHead(200, { etag }).end(body);
  };
const answer =
  (status: number): Handler =>
  (_request, response) =>
    void response.writeHead(status).end();

interface Scene extends AsyncDisposable {
  readonly site: Site;
  readonly files: FileStore;
  fetch(signal?: AbortSignal): Promise<FetchedList>;
  keptFile(): Promise<string>;
}

async function startScene(t: TestContext, handler: Handler): Promise<Scene> {
  const files = await emptyStore(t);
  const site = await startSite(handler);
  const folder = join(files.stateDir, 'lists');
  return {
    site,
    files,
    fetch: (signal) => fetchList(`${site.url}/store-paths`, { http: site.client, files, signal }),
    keptFile: async () => join(folder, (await readdir(folder))[0] ?? ''),
    [Symbol.asyncDispose]: () => site[Symbol.asyncDispose](),
  };
}

suite('fetchList', { timeout: 180_000 }, () => {
  test('fetches a list once, and again after it has changed', async (t) => {
    await using scene = await startScene(t, serve(`${A}\n`));
    assert.deepEqual(await scene.fetch(), { paths: [A], notes: [] });
    assert.deepEqual(await scene.fetch(), { paths: [A], notes: [] });
    const [, second] = scene.site.requests;
    assert.equal(second?.headers['if-none-match'], `"${A.length + 1}"`);
    scene.site.handler = serve(`${A}\n${B}\n`);
    assert.deepEqual(await scene.fetch(), { paths: [A, B], notes: [] });
    scene.site.handler = serve(`${A}\n${B}\n`);
    assert.deepEqual(await scene.fetch(), { paths: [A, B], notes: [] });
  });

  test('uses the kept list if the server fails, and says so', async (t) => {
    await using scene = await startScene(t, serve(`${A}\n`));
    await scene.fetch();
    scene.site.handler = answer(503);
    const { paths, notes } = await scene.fetch();
    assert.deepEqual(paths, [A]);
    const [note] = notes;
    assert.ok(note?.kind === 'kept-list');
    assert.match(note.at, /^20\S+Z$/);
    assert.match(note.failure.reason, /^http:.*\/store-paths failed after 3 attempts: .* 503$/);
    await scene.site[Symbol.asyncDispose]();
    await assert.rejects(
      scene.fetch(),
      failsWith('INTERRUPTED'),
      'the client is closed: no reason to use what is kept',
    );
  });

  test('fails if nothing is kept, or if the list is gone', async (t) => {
    await using scene = await startScene(t, answer(503));
    await assert.rejects(scene.fetch(), failsWith('HTTP_FAILED'));
    scene.site.handler = answer(404);
    await assert.rejects(
      scene.fetch(),
      failsWith('HTTP_NOT_FOUND', /does not have the list http.*: check its address/),
    );
    scene.site.handler = serve(A);
    await scene.fetch();
    scene.site.handler = answer(404);
    await assert.rejects(scene.fetch(), failsWith('HTTP_NOT_FOUND'));
  });

  test('does not keep anything else than a list', async (t) => {
    await using scene = await startScene(t, serve(`${A}\n`));
    await scene.fetch();
    scene.site.handler = serve('<!DOCTYPE html><title>Please log in</title>');
    await assert.rejects(scene.fetch(), failsWith('USAGE', /store-paths is a web page/));
    scene.site.handler = answer(500);
    assert.deepEqual((await scene.fetch()).paths, [A]);
  });

  test('ignores a damaged kept list', async (t) => {
    await using scene = await startScene(t, serve(`${A}\n`));
    await scene.fetch();
    const file = await scene.keptFile();
    const sound = await readFile(file);
    for (const damaged of [sound.subarray(0, -5), Buffer.from('{}\n'), Buffer.from('x\n'), Buffer.from('')]) {
      await writeFile(file, damaged);
      scene.site.handler = serve(`${A}\n`);
      assert.deepEqual(await scene.fetch(), { paths: [A], notes: [] });
      assert.equal(scene.site.requests.at(-1)?.headers['if-none-match'], undefined);
      assert.deepEqual((await readFile(file)).subarray(-A.length), sound.subarray(-A.length));
    }
  });

  test("throws the signal's reason, even if a list is kept", async (t) => {
    await using scene = await startScene(t, serve(`${A}\n`));
    await scene.fetch();
    const reason = new Error('enough');
    await assert.rejects(scene.fetch(AbortSignal.abort(reason)), reason);
  });
});
