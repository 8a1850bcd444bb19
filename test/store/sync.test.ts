import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isNarswarmError } from '../../src/errors.ts';
import { FileStore } from '../../src/store/file-store.ts';

/** A store, and a PATH on which `sync` is this script, or is missing. */
async function storeWithSync(t: TestContext, script: string | undefined): Promise<FileStore> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-sync-'));
  t.after(() => rm(dir, { recursive: true }));
  const store = await FileStore.open(join(dir, 'store'), { create: true });
  if (script !== undefined) {
    await writeFile(join(dir, 'sync'), `#!/bin/sh\n${script}\n`);
    await chmod(join(dir, 'sync'), 0o755);
  }
  const path = process.env['PATH'];
  process.env['PATH'] = dir;
  t.after(() => (process.env['PATH'] = path));
  return store;
}

test('reports a disk that failed to take the data, in the words of sync', async (t) => {
  const store = await storeWithSync(t, 'echo "sync: error syncing \'$2\': Input/output error" >&2; exit 1');
  await assert.rejects(
    store.sync(),
    (error) => isNarswarmError(error, 'STORE_UNWRITABLE') && /Input\/output error/.test(error.message),
  );
});

test('a machine without sync(1) syncs the folder', async (t) => {
  const store = await storeWithSync(t, undefined);
  await store.sync();
});
