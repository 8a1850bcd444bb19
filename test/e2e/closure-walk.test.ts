/** Walks 800 narinfos of a local HTTP server, and compares with the real Nix. Prints figures, and sets no limits. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatCacheInfo } from '../../src/nix/cache-info.ts';
import { formatNarInfo } from '../../src/nix/narinfo.ts';
import { signNarInfo } from '../../src/nix/signature.ts';
import { hashOf, infoOf } from '../fetch/walk/narinfos.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { Lab } from '../support/lab.ts';

const COUNT = 800;

test(`${COUNT} narinfos`, async (t) => {
  await using lab = await Lab.open();
  const dir = await lab.folder('cache');
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { x = '' } = publicKey.export({ format: 'jwk' });
  const key = `walk-1:${Buffer.from(x, 'base64url').toString('base64')}`;
  await writeFile(
    join(dir, 'nix-cache-info'),
    formatCacheInfo({ storeDir: '/nix/store', wantMassQuery: true, priority: 30 }),
  );
  for (let index = 0; index < COUNT; index++) {
    // As deep as a real closure: each path refers to some of those that come a little later.
    const references = [1, 2, 7, 20, 60].map((step) => index * 2 + step).filter((target) => target < COUNT);
    const info = infoOf(
      `p${index}`,
      references.map((target) => `p${target}`),
    );
    const signed = { ...info, signatures: [signNarInfo(info, { name: 'walk-1', key: privateKey })] };
    await writeFile(join(dir, `${hashOf(`p${index}`)}.narinfo`), formatNarInfo(signed));
  }
  const cache = lab.use(await startHttpCache(dir));
  const root = infoOf('p0').storePath;

  const what = ['--from', cache.url, '--trusted-public-key', key, '--no-copy', '--dry-run'];
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const run = await lab.run(['fetch', root, '--store', await lab.folder('store'), ...what]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('plan')['paths'], COUNT);
    times.push(run.durationMs);
  }
  assert.equal(cache.requests.length, 3 * COUNT, 'one request a path');

  const start = performance.now();
  const args = ['--extra-experimental-features', 'nix-command', 'path-info', '-r', '--store', cache.url, root];
  const nix = spawn('nix', args, { env: { ...lab.env, XDG_CACHE_HOME: await lab.folder('nix-cache') } });
  let stdout = '';
  nix.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  const [status] = (await once(nix, 'close')) as [number];
  const nixMs = performance.now() - start;
  assert.equal(status, 0);
  assert.equal(stdout.trim().split('\n').length, COUNT);
  const help = await lab.runPlain(['--version']);
  const ms = (value: number): string => `${Math.round(value)} ms`;
  t.diagnostic(
    `narswarm fetch --dry-run: ${times.map(ms).join(', ')}, of which ${ms(help.durationMs)} are the start of the process; nix path-info -r: ${ms(nixMs)}`,
  );
});
