/** Talks to the real `nix-daemon --stdio` about a store of its own. */
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseNarInfo } from '../../../src/nix/narinfo.ts';
import { queryInvalidPaths } from '../../../src/nix/programs/nix-queries.ts';
import { encodeNumber, encodeString } from '../../../src/nix/programs/wire-format.ts';
import { NixWorker } from '../../../src/nix/programs/worker.ts';
import { processesOf } from '../../support/process-group.ts';
import { Lab } from '../../support/lab.ts';
import { startNixDaemon } from '../../support/nix-daemon.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { CACHE_DIR, failsWith, LEAF, NOTE, readFixture, readNarInfo, TOP } from '../fixtures.ts';

const trustedPublicKeys = [readFixture('fixture-1.public').trim()];
const [top, leaf, note] = [TOP, LEAF, NOTE].map((hash) => parseNarInfo(readNarInfo(hash))) as [Info, Info, Info];
type Info = ReturnType<typeof parseNarInfo>;

let dir = '';
let store = '';
const { fakeProgram } = useNixFolder((folder) => {
  dir = folder;
  store = `local?root=${folder}/target`;
});

const substituter = `file://${CACHE_DIR}`;

/** Copies the fixtures' cache, with changes of the narinfo of `leaf`. @returns its URL */
async function changedCache(change: (text: string) => string): Promise<string> {
  const cache = join(dir, 'changed');
  await cp(CACHE_DIR, cache, { recursive: true });
  const file = join(cache, `${LEAF}.narinfo`);
  await writeFile(file, change(await readFile(file, 'utf8')));
  return `file://${cache}`;
}

const invalid = async (): Promise<string[]> => [
  ...(await queryInvalidPaths([top.storePath, leaf.storePath, note.storePath], store)),
];

test('makes one path valid after another over one connection', async () => {
  await using nix = await NixWorker.open({ store, trustedPublicKeys, substituter });
  for (const { storePath } of [leaf, note, top]) {
    await nix.ensurePath(storePath);
    assert.ok(!(await invalid()).includes(storePath));
  }
  assert.deepEqual(await invalid(), []);
});

test('makes paths valid over the socket of a running daemon that trusts this user, and tells why it cannot', async () => {
  await using lab = await Lab.open();
  await invalid(); // makes the store: two connections must not
  const settings = ['trusted-users = *', 'trusted-public-keys ='];
  const { NIX_DAEMON_SOCKET_PATH: socket } = await startNixDaemon(lab, settings, store);
  await using nix = await NixWorker.open({ store: 'daemon', socket, trustedPublicKeys, substituter });
  await nix.ensurePath(leaf.storePath);
  assert.ok(!(await invalid()).includes(leaf.storePath));
  await assert.rejects(
    nix.ensurePath(top.storePath.replace('top', 'pot') as typeof top.storePath),
    /^NarswarmError: nix failed: /,
  );
  const nowhere = failsWith('NIX_FAILED', /^the nix-daemon at \/nowhere failed: connect ENOENT \/nowhere$/);
  await assert.rejects(NixWorker.open({ store: 'daemon', socket: '/nowhere' }), nowhere);
});

test('Nix refuses a path without a signature of a trusted key', async () => {
  const unsigned = await changedCache((text) => text.replace(/^Sig:.*\n/gm, ''));
  for (const options of [
    { trustedPublicKeys: [], substituter },
    { trustedPublicKeys, substituter: unsigned },
  ]) {
    await using nix = await NixWorker.open({ store, ...options });
    await assert.rejects(nix.ensurePath(leaf.storePath), failsWith('NIX_FAILED', /^nix failed: .*leaf/s));
    assert.ok((await invalid()).includes(leaf.storePath));
  }
});

test('Nix refuses other contents', async () => {
  const other = await changedCache((text) => text.replace(/^URL:.*$/m, `URL: ${note.url}`));
  await using nix = await NixWorker.open({ store, trustedPublicKeys, substituter: other });
  await assert.rejects(nix.ensurePath(leaf.storePath), failsWith('NIX_FAILED', /^nix failed: /));
  assert.ok((await invalid()).includes(leaf.storePath));
});

test('Nix takes paths from the named cache alone, also if its own settings name another, or none at all', async () => {
  const empty = join(dir, 'empty');
  await mkdir(empty);
  await cp(join(CACHE_DIR, 'nix-cache-info'), join(empty, 'nix-cache-info'));
  process.env.NIX_CONFIG += `\nsubstitute = true\nsubstituters = ${substituter}`;
  await using nix = await NixWorker.open({ store, trustedPublicKeys, substituter: `file://${empty}` });
  await assert.rejects(nix.ensurePath(leaf.storePath), failsWith('NIX_FAILED', /^nix failed: /));
  process.env.NIX_CONFIG += `\nsubstitute = false\nsubstituters =`;
  await using other = await NixWorker.open({ store, trustedPublicKeys, substituter });
  await other.ensurePath(leaf.storePath);
  assert.ok(!(await invalid()).includes(leaf.storePath));
});

test('says why Nix cannot be talked to', async () => {
  const nowhere = failsWith('NIX_FAILED', /\/proc\/nowhere/);
  await assert.rejects(NixWorker.open({ store: 'local?root=/proc/nowhere' }), nowhere);
  fakeProgram('nix-daemon', 'exec cat'); // echoes its input
  await assert.rejects(NixWorker.open({ store }), failsWith('NIX_FAILED', /does not speak a protocol/));
});

test('a request ends if the signal aborts', async () => {
  fakeProgram('nix-daemon', 'exec sleep 1000');
  const stop = new AbortController();
  const opened = NixWorker.open({ store, signal: stop.signal });
  const reason = new Error('enough');
  stop.abort(reason);
  await assert.rejects(opened, reason);
});

const HELLO_BACK = 0x64_78_69_6f;
const LAST = encodeNumber(0x61_6c_74_73);
const ERROR = encodeNumber(0x63_78_74_70);
const LOG_LINE = encodeNumber(0x6f_6c_6d_67);

/** Puts a program in the place of nix-daemon that says this, whatever it is asked, and reads on. */
async function scripted(version: number, ...says: readonly Buffer[]): Promise<void> {
  const file = join(dir, 'says');
  const trust = version >= 0x1_23 ? [encodeNumber(1)] : [];
  const nix = version >= 0x1_21 ? [encodeString('2.0')] : [];
  const hello = [encodeNumber(HELLO_BACK), encodeNumber(version), ...nix, ...trust, LAST];
  await writeFile(file, Buffer.concat([...hello, ...says]));
  fakeProgram('nix-daemon', `cat '${file}'; exec cat >/dev/null`);
}

test('reads past messages, and takes the words of an error of an old and of a new Nix', async () => {
  const fields = [encodeNumber(2), encodeNumber(0), encodeNumber(7), encodeNumber(1), encodeString('text')];
  const activity = [
    encodeNumber(1),
    encodeNumber(3),
    encodeNumber(100),
    encodeString('copying'),
    ...fields,
    encodeNumber(0),
  ];
  const log = [LOG_LINE, encodeString('a line')];
  const start = [encodeNumber(0x53_54_52_54), ...activity];
  const result = [encodeNumber(0x52_53_4c_54), encodeNumber(1), encodeNumber(105), ...fields];
  const messages = [...log, ...start, ...result, encodeNumber(0x53_54_4f_50), encodeNumber(1)];
  const words = encodeString('it cannot be');
  const place = [encodeNumber(0), encodeNumber(1), encodeNumber(0), encodeString('while doing this')];
  for (const [version, error] of [
    [0x1_17, [words, encodeNumber(1)]],
    [0x1_22, [encodeString('Error'), encodeNumber(0), encodeString('Error'), words, ...place]],
    [0x1_26, [encodeString('Error'), encodeNumber(0), encodeString('Error'), words, ...place]],
  ] as const) {
    await scripted(version, ...messages, LAST, encodeNumber(1), ...messages, ERROR, ...error);
    await using nix = await NixWorker.open({ store });
    await nix.addIndirectRoot('/link');
    await assert.rejects(nix.addIndirectRoot('/link'), failsWith('NIX_FAILED', /^nix failed: it cannot be$/));
  }
});

test('a message without end, or one that is none, is a failure', async () => {
  for (const [says, expected] of [
    [[LOG_LINE, encodeNumber(2 ** 40), Buffer.alloc(2 ** 21)], /a length of 1099511627776/],
    [[encodeNumber(5)], /does not speak a protocol/],
    [[Buffer.alloc(8, 255)], /sent the number/],
  ] as const) {
    await scripted(0x1_22, ...says);
    await using nix = await NixWorker.open({ store });
    await assert.rejects(nix.addIndirectRoot('/link'), failsWith('NIX_FAILED', expected));
  }
});

test('a request fails after its time, and no process stays behind', async () => {
  fakeProgram('nix-daemon', 'trap "" TERM; sleep 1000');
  const late = failsWith('NIX_FAILED', /Nix has not answered within 0.1 s/);
  await assert.rejects(NixWorker.open({ store, limitMs: 100 }), late);
  assert.deepEqual(await processesOf(store), []);
  await scripted(0x1_22, Buffer.alloc(4)); // half of a number
  await using nix = await NixWorker.open({ store });
  await assert.rejects(
    nix.ensurePath(leaf.storePath, 200),
    failsWith('NIX_FAILED', /Nix has not answered within 0.2 s/),
  );
});

test('a stopped Nix is killed with its pipeline', async () => {
  const nix = await NixWorker.open({ store, trustedPublicKeys });
  const before = await processesOf(store);
  for (const { pid, name } of before) if (name === 'nix-daemon') process.kill(pid, 'SIGSTOP');
  await nix[Symbol.asyncDispose]();
  assert.deepEqual(await processesOf(store), []);
  assert.ok(before.length > 2);
});
