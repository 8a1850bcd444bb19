/** Asks a publisher's mirror for a newer edition. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NewerEdition } from '../../src/daemon/newer-edition.ts';
import { HttpClient } from '../../src/http/client.ts';
import { signGolden } from '../index/built-index.ts';
import { GOLDEN, KEY } from '../index/fixtures.ts';
import { serve } from '../support/odd-server.ts';

test('a mirror that trickles, stalls or redirects in a circle is asked again', { timeout: 180_000 }, async (t) => {
  const created = new Date();
  const manifest = signGolden({ created, expires: new Date(created.getTime() + 3_600_000) });
  let fault: 'trickle' | 'stall' | 'redirect' | undefined;
  await using mirror = await serve((request, response) => {
    if (fault === undefined) response.end(manifest);
    else if (fault === 'redirect') response.writeHead(302, { location: request.url }).end();
    else response.writeHead(200, { 'content-length': manifest.length }).flushHeaders();
    if (fault !== 'trickle') return;
    let at = 0;
    const timer = setInterval(() => response.write(manifest.subarray(at, ++at)), 20);
    response.on('close', () => clearInterval(timer));
  });
  await using http = new HttpClient();
  const publicKeyHex = Buffer.from(KEY.publicKey).toString('hex');
  const address = { publicKey: KEY.publicKey, publicKeyHex, salt: GOLDEN.salt, baseUrl: mirror.url };
  const openDht = (): Promise<undefined> => Promise.resolve(undefined);
  for (const one of ['trickle', 'stall', 'redirect'] as const) {
    fault = one;
    const hasty = new NewerEdition(address, { http, openDht, answerMs: 300 });
    assert.equal(await hasty.isAbove(0, t.signal), false, one);
    fault = undefined;
    const patient = new NewerEdition(address, { http, openDht });
    assert.equal(await patient.isAbove(0, t.signal), true, one);
  }
});

test('the end of the daemon ends a question', async (t) => {
  const asked = Promise.withResolvers<void>();
  await using mirror = await serve(() => asked.resolve());
  await using http = new HttpClient();
  const publicKeyHex = Buffer.from(KEY.publicKey).toString('hex');
  const address = { publicKey: KEY.publicKey, publicKeyHex, salt: '', baseUrl: mirror.url };
  const stop = new AbortController();
  const newer = new NewerEdition(address, { http, openDht: () => Promise.resolve(undefined) });
  const answer = newer.isAbove(0, AbortSignal.any([stop.signal, t.signal]));
  await asked.promise;
  stop.abort(new Error('the end'));
  await assert.rejects(answer, /the end/);
});
