/** Runs the real Nix on a store of its own. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { execa } from 'execa';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { StoreSession } from '../../../src/nix/programs/store-session.ts';
import { encodeNumber, encodeString, encodeStrings, WireReader } from '../../../src/nix/programs/wire-format.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { CACHE_DIR, failsWith, readFixture, readNarInfo, NOTE, TOP } from '../fixtures.ts';

let store = '';
const { fakeNix } = useNixFolder((folder) => {
  store = `local?root=${folder}/target`;
});

const INFOS = [TOP, NOTE].map((hash) => parseNarInfo(readNarInfo(hash)));
const PATHS = INFOS.map(({ storePath }) => storePath);
const ABSENT = parseStorePath('/nix/store/00000000000000000000000000000000-absent');

test('returns the valid paths of a store, and their records', async () => {
  const key = readFixture('fixture-1.public').trim();
  const copy = ['copy', '--from', `file://${CACHE_DIR}`, '--to', store, '--option', 'trusted-public-keys', key];
  await execa('nix', ['--extra-experimental-features', 'nix-command', ...copy, ...PATHS]);
  await using session = StoreSession.open({ store });
  const [valid, infos, none] = await Promise.all([
    session.queryValidPaths([...PATHS, ABSENT]),
    session.queryPathInfos([ABSENT, ...PATHS]),
    session.queryPathInfos([ABSENT]),
  ]);
  assert.deepEqual([...valid].toSorted(), PATHS.toSorted());
  const byPath = (a: { storePath: string }, b: { storePath: string }): number => (a.storePath < b.storePath ? -1 : 1);
  assert.partialDeepStrictEqual(INFOS.toSorted(byPath), infos.toSorted(byPath));
  assert.deepEqual(none, []);
});

test('each query fails if the store cannot be opened or Nix is not installed', async () => {
  await using session = StoreSession.open({ store: 'local?root=/proc/nowhere' });
  const failed = failsWith('NIX_FAILED', /nix-store --serve failed: error: .*\/proc\/nowhere/);
  await assert.rejects(session.queryValidPaths(PATHS), failed);
  await assert.rejects(session.queryPathInfos(PATHS), failed);
  fakeNix('exec cat'); // echoes its input
  await using echo = StoreSession.open({});
  await assert.rejects(echo.queryValidPaths(PATHS), failsWith('NIX_FAILED', /does not speak a protocol/));
  process.env['PATH'] = '/nowhere';
  await using none = StoreSession.open({});
  await assert.rejects(none.queryValidPaths(PATHS), failsWith('NIX_FAILED', /ENOENT/));
});

test('a query ends if the signal aborts', async () => {
  fakeNix('exec sleep 1000');
  const stop = new AbortController();
  await using session = StoreSession.open({ signal: stop.signal });
  const asked = session.queryValidPaths(PATHS);
  const reason = new Error('enough');
  stop.abort(reason);
  await assert.rejects(asked, reason);
});

test('Nix ends by the end of its input, since a signal would spoil a store that it is creating', async () => {
  const ended = join(await mkdtemp(join(tmpdir(), 'narswarm-ended-')), 'ended');
  fakeNix(`trap 'echo by a signal > ${ended}; exit' TERM\ncat > /dev/null\necho by its input > ${ended}`);
  const stop = new AbortController();
  {
    await using session = StoreSession.open({ signal: stop.signal });
    const asked = session.queryValidPaths(PATHS);
    stop.abort(new Error('Ctrl-C'));
    await assert.rejects(asked, /Ctrl-C/);
  }
  assert.equal(await readFile(ended, 'utf8'), 'by its input\n');
  await rm(dirname(ended), { recursive: true });
});

test('reads back its own output, in chunks of any size', async () => {
  const texts = ['', 'a', 'eight by', 'nine byte', 'ümlaut 🐢'];
  const bytes = Buffer.concat([encodeNumber(2 ** 40), encodeStrings(texts), encodeString('end')]);
  const stream = new PassThrough();
  for (const byte of bytes) stream.write(Buffer.of(byte));
  stream.end();
  const reader = new WireReader(stream);
  assert.equal(await reader.number(), 2 ** 40);
  assert.deepEqual(await reader.strings(), texts);
  assert.equal(await reader.string(), 'end');
});

test('refuses a stream that ends early or makes no sense', async () => {
  const reads = (bytes: Buffer): WireReader => new WireReader(new PassThrough().end(bytes));
  await assert.rejects(reads(encodeString('a').subarray(0, 12)).string(), failsWith('NIX_FAILED', /in the middle/));
  await assert.rejects(reads(Buffer.alloc(8, 0xff)).number(), failsWith('NIX_FAILED'));
  await assert.rejects(reads(encodeNumber(2 ** 30)).string(), failsWith('NIX_FAILED', /length/));
  await assert.rejects(reads(encodeNumber(2 ** 30)).strings(), failsWith('NIX_FAILED', /length/));
});
