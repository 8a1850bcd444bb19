/** The settings of the NixOS module make the loss of the daemon harmless to the real Nix. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { useNixFolder } from '../support/nix-folder.ts';
import { evaluate } from './module-cases.ts';

const CACHE = fileURLToPath(new URL('../../fixtures/nix/cache', import.meta.url));
const KEY = 'fixture-1:csBRW6+p1rj9F1wXrI3TdA3G1OJ7iuBomIozrHAO08g=';
const LEAF = '/nix/store/2s4q97y13dynyhi482033jrx8vka36yx-leaf-1.0';
const TOP = '/nix/store/ak1r35k6n7424jh8hk7axrj4l9x6zsrv-top+1.0_x=?';

let folder = '';
useNixFolder((made) => {
  folder = made;
});

/** Starts a cache in the place of the daemon. @returns it, and a function that lets Nix fetch a path with the module's settings */
async function withDaemon(
  root: string,
): Promise<{ daemon: HttpCache; realise: (path: string) => Promise<{ stderr: string }> }> {
  const { nix } = evaluate({ bare: '{ services.narswarm.enable = true; }' }).bare;
  const daemon = await startHttpCache(root);
  const substituters = [daemon.url, `file://${CACHE}`].join(' ');
  const given = { ...nix, substitute: true, substituters, 'trusted-public-keys': KEY };
  const options = Object.entries(given).flatMap(([key, value]) => ['--option', key, String(value)]);
  return { daemon, realise: (path) => execa('nix-store', ['--realise', path, ...options]) };
}

test('Nix takes a path from the next cache after the daemon has ended', async () => {
  const empty = join(folder, 'empty');
  await mkdir(empty);
  await writeFile(join(empty, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  const { daemon, realise } = await withDaemon(empty);

  // Nix remembers the cache from now on, and asks it first.
  await realise(LEAF);
  assert.ok(daemon.requests.some(({ url }) => url === '/nix-cache-info'));
  await daemon.stop();
  const [, minor = ''] = /2\.(\d+)/.exec((await execa('nix-store', ['--version'])).stdout) ?? [];
  // Nix 2.8 aborts, so the module leaves its nix.conf alone.
  if (Number(minor) < 9) await assert.rejects(realise(TOP), /SubstituterDisabled/);
  else {
    await realise(TOP);
    await execa('nix-store', ['--check-validity', TOP]);
  }
});

test('Nix takes a path from the next cache if the daemon ends in the middle of it', async () => {
  const { daemon, realise } = await withDaemon(CACHE);
  daemon.faults = [{ match: /\/nar\//, kind: 'stall', afterBytes: 10 }];
  const running = realise(LEAF);
  while (!daemon.requests.some(({ url, bytes }) => url.startsWith('/nar/') && bytes > 0)) await setImmediate();
  await daemon.stop();
  await running;
  await execa('nix-store', ['--check-validity', LEAF]);
});
