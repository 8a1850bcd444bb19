import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { isNarswarmError } from '../../src/errors.ts';
import {
  createPublisherKey,
  loadPublisherKey,
  publisherKeyFromSeed,
  verifyEd25519,
} from '../../src/index/publisher-key.ts';
import { failsWith } from '../nix/fixtures.ts';
import { flipBit, KEY, OTHER_KEY } from './fixtures.ts';

const MESSAGE = Buffer.from('a message');

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'narswarm-key-'));
});
after(() => rm(folder, { recursive: true }));

async function modeOf(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

test('signs as RFC 8032 says', () => {
  const key = publisherKeyFromSeed(
    Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex'),
  );
  const publicKey = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a';
  const signature =
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b';
  assert.equal(Buffer.from(key.publicKey).toString('hex'), publicKey);
  assert.equal(Buffer.from(key.sign(new Uint8Array())).toString('hex'), signature);
  assert.ok(verifyEd25519(key.publicKey, new Uint8Array(), Buffer.from(signature, 'hex')));
});

test('a seed has 32 bytes', () => {
  for (const size of [0, 31, 33]) {
    assert.throws(() => publisherKeyFromSeed(new Uint8Array(size)), failsWith('KEY_INVALID', /has 32 bytes/));
  }
});

test('a signature is valid for one message and one key', () => {
  const signature = KEY.sign(MESSAGE);
  assert.ok(verifyEd25519(KEY.publicKey, MESSAGE, signature));
  assert.equal(verifyEd25519(OTHER_KEY.publicKey, MESSAGE, signature), false);
  assert.equal(verifyEd25519(KEY.publicKey, Buffer.from('another'), signature), false);
  for (let bit = 0; bit < 512; bit++) {
    assert.equal(verifyEd25519(KEY.publicKey, MESSAGE, flipBit(signature, bit)), false);
  }
});

test('malformed keys and signatures are invalid, and cause no error', () => {
  const bytes = fc.uint8Array({ maxLength: 70 });
  const key = fc.oneof(bytes, fc.uint8Array({ minLength: 32, maxLength: 32 }));
  const signature = fc.oneof(bytes, fc.uint8Array({ minLength: 64, maxLength: 64 }));
  fc.assert(fc.property(key, bytes, signature, (...args) => assert.equal(verifyEd25519(...args), false)));
  assert.equal(verifyEd25519(new Uint8Array(31), MESSAGE, KEY.sign(MESSAGE)), false);
  assert.equal(verifyEd25519(KEY.publicKey, MESSAGE, KEY.sign(MESSAGE).subarray(1)), false);
});

test('only its owner can load a new key', async () => {
  const file = join(folder, 'new', 'below', 'publisher.pem');
  const created = await createPublisherKey(file);
  const { tooOpen, ...loaded } = await loadPublisherKey(file);
  assert.equal(tooOpen, false);
  assert.deepEqual(loaded.publicKey, created.publicKey);
  assert.deepEqual(loaded.sign(MESSAGE), created.sign(MESSAGE));
  assert.ok(verifyEd25519(created.publicKey, MESSAGE, loaded.sign(MESSAGE)));
  assert.equal(await modeOf(file), 0o600);
  assert.equal(await modeOf(join(folder, 'new')), 0o700);
  assert.equal(await modeOf(join(folder, 'new', 'below')), 0o700);
});

test('two new keys differ', async () => {
  const [first, second] = [await createPublisherKey(join(folder, '1')), await createPublisherKey(join(folder, '2'))];
  assert.notDeepEqual(first.publicKey, second.publicKey);
});

test('openssl reads the file, and a file that openssl wrote can be loaded', async () => {
  const [ours, theirs] = [join(folder, 'ours.pem'), join(folder, 'theirs.pem')];
  const { publicKey } = await createPublisherKey(ours);
  const der = execFileSync('openssl', ['pkey', '-in', ours, '-pubout', '-outform', 'DER']);
  assert.deepEqual(new Uint8Array(der.subarray(-32)), publicKey);
  execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', theirs]);
  const loaded = await loadPublisherKey(theirs);
  assert.ok(verifyEd25519(loaded.publicKey, MESSAGE, loaded.sign(MESSAGE)));
});

test('never overwrites a key', async () => {
  const file = join(folder, 'kept.pem');
  await createPublisherKey(file);
  const pem = await readFile(file, 'utf8');
  await assert.rejects(createPublisherKey(file), failsWith('KEY_INVALID', /kept\.pem: the file exists/));
  assert.equal(await readFile(file, 'utf8'), pem);
});

async function isTooOpen(mode: number): Promise<boolean> {
  const file = join(folder, `${mode.toString(8)}.pem`);
  await createPublisherKey(file);
  await chmod(file, mode);
  return (await loadPublisherKey(file)).tooOpen;
}

test('reports a file that others may read', async () => {
  assert.deepEqual(await Promise.all([0o640, 0o604, 0o620, 0o601].map(isTooOpen)), [true, true, true, true]);
  assert.deepEqual(await Promise.all([0o600, 0o400].map(isTooOpen)), [false, false]);
});

test('a failed write names the file and keeps the cause', async () => {
  await writeFile(join(folder, 'file'), '');
  await assert.rejects(createPublisherKey(join(folder, 'file', 'key.pem')), (error) => {
    assert.ok(isNarswarmError(error, 'KEY_INVALID'));
    assert.match(error.message, /file\/key\.pem/);
    assert.ok(error.cause instanceof Error);
    return true;
  });
});

test('a failed load names the file and shows nothing of its contents', async () => {
  const passphrase = { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' } as const;
  const ed25519 = generateKeyPairSync('ed25519');
  const contents = {
    empty: '',
    text: 'SECRET-1234',
    cut: ed25519.privateKey.export({ type: 'pkcs8', format: 'pem' }).slice(0, 60),
    public: ed25519.publicKey.export({ type: 'spki', format: 'pem' }),
    locked: ed25519.privateKey.export(passphrase),
    x25519: generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }),
    rsa: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
  const isRefused = async ([name, content]: [name: string, content: string | Buffer]): Promise<void> => {
    const file = join(folder, `bad-${name}`);
    await writeFile(file, content);
    await assert.rejects(loadPublisherKey(file), (error) => {
      assert.ok(isNarswarmError(error, 'KEY_INVALID'), String(error));
      assert.match(error.message, new RegExp(`bad-${name} `));
      assert.doesNotMatch(error.message, /SECRET|BEGIN/);
      return true;
    });
  };
  await Promise.all(Object.entries(contents).map(isRefused));
  await mkdir(join(folder, 'directory'));
  await assert.rejects(loadPublisherKey(join(folder, 'directory')), failsWith('KEY_INVALID', /directory: /));
  await assert.rejects(loadPublisherKey(join(folder, 'absent')), failsWith('NOT_FOUND', /absent: /));
});
