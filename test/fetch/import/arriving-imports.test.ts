/** Imports of arriving NARs into a Nix that falls silent. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { ArrivingImports } from '../../../src/fetch/import/arriving-imports.ts';
import { ImportWorkers } from '../../../src/fetch/import/import-workers.ts';
import { fileHashOf } from '../../../src/nix/hash.ts';
import { encodeNumber } from '../../../src/nix/programs/wire-format.ts';
import { ImportFolder } from '../../../src/store/import-folder.ts';
import { PartialNar } from '../../../src/store/partial.ts';
import { LEAF } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../../store/store-fixture.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { processesOf } from '../../support/process-group.ts';

let dir = '';
const { fakeProgram } = useNixFolder((folder) => {
  dir = folder;
});

const HELLO_BACK = 0x64_78_69_6f;
const LAST = 0x61_6c_74_73;

test('a Nix that does not read a complete NAR is given up, and nothing is left of it', async (t) => {
  const answers = join(dir, 'answers');
  await writeFile(answers, Buffer.concat([HELLO_BACK, 0x1_13, LAST, LAST].map(encodeNumber)));
  fakeProgram('nix-daemon', `cat '${answers}'; exec cat >/dev/null`);
  const store = await filledStore(t);
  const to = `local?root=${dir}/target`;
  const bytes = randomBytes(1_500_000);
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  const partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: bytes.length, fileHash });
  await using folder = await ImportFolder.open(store);
  await using workers = new ImportWorkers(
    { to, trustedPublicKeys: [], cache: folder.url, signal: new AbortController().signal },
    0,
  );
  await workers.openMore();
  await using imports = await ArrivingImports.open(folder, workers);
  const info = await infoOf(store, LEAF);
  imports.begin(info, partial);
  await partial.write(0, [bytes], 'upstream');
  await partial.settle(join(dir, 'whole'));
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const finished = imports.finish(info, fileHash);
  t.mock.timers.tick(200_000);
  t.mock.timers.reset();
  assert.equal(await finished, false);
  assert.equal(imports.isFree, false, 'no more are begun');
  assert.equal(workers.isFree, false);
  assert.deepEqual(await processesOf(to), []);
});

test('a NAR may take longer to arrive than Nix for any other request', async (t) => {
  const store = await filledStore(t);
  const bytes = randomBytes(1_500_000);
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  await using folder = await ImportFolder.open(store);
  const [hello, done] = [join(dir, 'hello'), join(dir, 'done')];
  await writeFile(hello, Buffer.concat([HELLO_BACK, 0x1_13, LAST, LAST].map(encodeNumber)));
  await writeFile(done, Buffer.concat([LAST, 1].map(encodeNumber)));
  const reads = `cat '${folder.dir}/arriving-1' >'${dir}/read'`;
  fakeProgram('nix-daemon', `cat '${hello}'; ${reads}; cat '${done}'; exec cat >/dev/null`);
  const options = { to: undefined, trustedPublicKeys: [], cache: folder.url };
  await using workers = new ImportWorkers({ ...options, signal: new AbortController().signal }, 0);
  await using imports = await ArrivingImports.open(folder, workers);
  await workers.openMore(); // the FIFOs are there
  const info = await infoOf(store, LEAF);
  const partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: bytes.length, fileHash });
  t.mock.timers.enable({ apis: ['setTimeout'] });
  imports.begin(info, partial);
  await partial.write(0, [bytes], 'upstream');
  await partial.settle(join(dir, 'whole'));
  t.mock.timers.tick(1_000_000);
  t.mock.timers.reset();
  assert.equal(await imports.finish(info, fileHash), true);
  assert.ok(bytes.equals(await readFile(join(dir, 'read'))));
});

test('a Nix that has not begun to read is ended at once if the NAR does not arrive', { timeout: 60_000 }, async (t) => {
  const store = await filledStore(t);
  const hello = join(dir, 'hello');
  await writeFile(hello, Buffer.concat([HELLO_BACK, 0x1_13, LAST, LAST].map(encodeNumber)));
  fakeProgram('nix-daemon', `cat '${hello}'; exec cat >/dev/null`); // it waits for the lock of the path
  await using folder = await ImportFolder.open(store);
  const options = { to: undefined, trustedPublicKeys: [], cache: folder.url };
  await using workers = new ImportWorkers({ ...options, signal: new AbortController().signal }, 0);
  await using imports = await ArrivingImports.open(folder, workers);
  await workers.openMore();
  const info = await infoOf(store, LEAF);
  const fileHash = info.fileHash ?? fileHashOf(Buffer.alloc(32));
  await using partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: 1_500_000, fileHash });
  imports.begin(info, partial);
  await imports.endOthers(() => false);
  assert.equal(imports.has(info.storePath), false);
  assert.ok(!(await readdir(folder.dir)).includes('arriving-1'), 'nobody finds a FIFO without a writer');
});

test('without its FIFO, a NAR is not begun', async (t) => {
  const store = await filledStore(t);
  await using folder = await ImportFolder.open(store);
  const options = { to: undefined, trustedPublicKeys: [], cache: folder.url };
  await using workers = new ImportWorkers({ ...options, signal: new AbortController().signal }, 0);
  await using imports = await ArrivingImports.open(folder, workers);
  await rm(join(folder.dir, 'arriving-0'));
  await rm(join(folder.dir, 'arriving-1'));
  const info = await infoOf(store, LEAF);
  const fileHash = info.fileHash ?? fileHashOf(Buffer.alloc(32));
  await using partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: 1_500_000, fileHash });
  imports.begin(info, partial);
  assert.equal(imports.has(info.storePath), false);
  assert.equal(imports.isFree, false);
});
