/** Passwords and tokens in addresses are used, but appear in no output and in no state file. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeBinaryCache, type BinaryCache } from '../bench/binary-cache.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, readNarInfos } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { serve } from '../support/odd-server.ts';

const PASSWORD = 'hush%21hush';
const SECRET = /hush|t0ken/;
const AUTHORIZATION = `Basic ${Buffer.from('me:hush!hush').toString('base64')}`;

describe('passwords in addresses', () => {
  let lab: Lab;
  let cache: BinaryCache;
  let upstream: HttpCache;
  let paths: readonly string[];

  before(async () => {
    lab = await Lab.open();
    cache = await writeBinaryCache({ name: 'small', sizesBytes: [300, 400] }, lab.path('cache'), lab.path('torrents'));
    upstream = lab.use(await startHttpCache(cache.dir));
    paths = [...(await readNarInfos(cache.dir)).values()].map(({ storePath }) => storePath);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Everything that is in files below a folder, but the NARs. */
  async function stateFiles(folder: string): Promise<string[]> {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  }

  test('passwords of lists, caches and mirrors are used and never shown', async () => {
    const seen: (string | undefined)[] = [];
    let isDown = false;
    await using site = await serve((request, response) => {
      seen.push(request.headers.authorization);
      const isList = request.url?.startsWith('/list?token=t0ken') === true && !isDown;
      if (isList) response.setHeader('etag', '"1"').end(paths.join('\n'));
      else response.writeHead(isDown ? 501 : 404).end();
    });
    const withPassword = site.url.replace('//', `//me:${PASSWORD}@`);
    const from = upstream.url.replace('//', `//me:${PASSWORD}@`);
    const flags = ['--from', from, '--trusted-public-key', cache.publicKey, ...ALONE];
    const one = await Machine.make(lab, { flags });
    await one.configure(`from = ["${from}"]`);
    const mirror = `${withPassword}/?xs=urn:btpk:${'ab'.repeat(32)}`;
    const said: string[] = [];
    const run = async (...args: string[]): Promise<void> => {
      const env = { NARSWARM_CONFIG: one.configFile };
      for (const { stdout, stderr } of [await one.run(args), await lab.runPlain(args, { env })]) {
        said.push(stdout + stderr);
      }
    };
    await one.subscribe('list', `${withPassword}/list?token=t0ken`);
    await run('subscribe', 'mirror', mirror, '--replace');
    await run('update', ...flags);
    assert.ok(seen.includes(AUTHORIZATION));
    for (const args of [['status'], ['status', 'list'], ['status', '--check'], ['subscriptions'], ['config']])
      await run(...args);
    isDown = true; // what was kept is used, with a note of the failure
    await run('update', ...flags);
    await run('status');
    await run('fetch', paths[0] ?? '', ...flags, '--publisher', mirror, '--no-copy');
    for (const bad of ['me:hush', 'me:hu/sh', 'hush']) {
      await run('fetch', paths[0] ?? '', '--from', `ftp://${bad}@host/hush@x`.replace('/hush@x', '/x'), '--no-copy');
      await run('fetch', paths[0] ?? '', '--publisher', `http://${bad}@host:port/`);
      await run('subscribe', 'bad', `http://${bad}@host:port/`);
    }
    for (const text of said) assert.doesNotMatch(text, SECRET);

    const state = join(one.store, 'narswarm');
    for (const file of await stateFiles(state)) assert.doesNotMatch(await readFile(file, 'latin1'), SECRET, file);
    for (const folder of ['subscriptions', 'lists']) {
      const files = await stateFiles(join(state, folder));
      assert.ok(files.length > 0, folder);
      for (const file of files) assert.equal((await stat(file)).mode & 0o777, 0o600, file);
    }
  });
});
