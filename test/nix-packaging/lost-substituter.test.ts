/** The settings of the NixOS module make the loss of the daemon harmless to the real Nix. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { startHttpCache } from '../support/http-cache.ts';
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

test('Nix takes a path from the next cache after the daemon has ended', async () => {
  const { nix } = evaluate({ bare: '{ services.narswarm.enable = true; }' }).bare;
  const empty = join(folder, 'empty');
  await mkdir(empty);
  await writeFile(join(empty, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  const daemon = await startHttpCache(empty);
  const substituters = [daemon.url, `file://${CACHE}`].join(' ');
  const given = { ...nix, substitute: true, substituters, 'trusted-public-keys': KEY };
  const options = Object.entries(given).flatMap(([key, value]) => ['--option', key, String(value)]);
  const realise = async (path: string): Promise<unknown> => execa('nix-store', ['--realise', path, ...options]);

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
