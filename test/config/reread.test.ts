import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { subscriptionsNow } from '../../src/config/reread.ts';
import { tempDir } from '../store/store-fixture.ts';
import type { Warning } from '../../src/warning.ts';

test('returns the subscriptions of the file as it is now, or as it last was valid', async (t) => {
  const file = join(await tempDir(t), 'config.toml');
  const around = { env: { NARSWARM_CONFIG: file }, isRoot: false, home: '/nowhere' };
  const one = '[subscriptions.one]\nsource = "nixpkgs#hello"\n';
  await writeFile(file, one);
  const warnings: Warning[] = [];
  const now = subscriptionsNow(await loadConfig({ around }), (warning) => warnings.push(warning));
  const names = async (): Promise<string[]> => (await now()).map(({ name }) => name);
  assert.deepEqual(await names(), ['one']);
  await writeFile(file, `${one}[subscriptions.two]\nsource = "nixpkgs#jq"\n`);
  assert.deepEqual(await names(), ['one', 'two']);
  await writeFile(file, `${one}[subscriptions`);
  assert.deepEqual(
    [await names(), await names()],
    [
      ['one', 'two'],
      ['one', 'two'],
    ],
  );
  await rm(file);
  assert.deepEqual(
    [await names(), await names()],
    [
      ['one', 'two'],
      ['one', 'two'],
    ],
  );
  assert.equal(warnings.length, 2);
  const [first] = warnings;
  assert.ok(first?.kind === 'earlier-config');
  assert.match(first.error.message, /config.toml:3: /);
  await writeFile(file, one);
  assert.deepEqual(await names(), ['one']);
});
