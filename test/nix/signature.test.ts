import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import {
  assertTrusted,
  fingerprint,
  formatPublicKey,
  parsePublicKey,
  parseSecretKey,
  signNarInfo,
  verifyNarInfo,
} from '../../src/nix/signature.ts';
import { parseStoreHash, parseStorePath } from '../../src/nix/store-path.ts';
import { failsWith, LEAF, NOTE, readFixture, readNarInfo, TOP } from './fixtures.ts';

const INFO = parseNarInfo(readNarInfo(TOP));
const [SIGNATURE = ''] = INFO.signatures;
const PUBLIC_TEXT = readFixture('fixture-1.public');
const SECRET_TEXT = readFixture('fixture-1.secret');
const KEY = parsePublicKey(PUBLIC_TEXT);
const SECRET = parseSecretKey(SECRET_TEXT);
const STRANGER = { name: 'stranger-1', key: generateKeyPairSync('ed25519').publicKey };
const NAMESAKE = { ...STRANGER, name: KEY.name };

test('makes the fingerprint that Nix signs', () => {
  assert.equal(
    fingerprint(INFO),
    `1;/nix/store/${TOP}-top+1.0_x=?;sha256:0ky74bw6aag09an9wyl7vjxcdvbkv3yc0x2mwp4gkmav4as9nglx;280;` +
      `/nix/store/${LEAF}-leaf-1.0,/nix/store/${NOTE}-note.txt,/nix/store/${TOP}-top+1.0_x=?`,
  );
  assert.match(fingerprint(parseNarInfo(readNarInfo(LEAF))), /;120;$/);
});

test('references are a set: order and repetition do not matter', () => {
  const references = [...INFO.references.toReversed(), ...INFO.references];
  assert.equal(fingerprint({ ...INFO, references }), fingerprint(INFO));
});

test("verifies Nix's signatures and signs as Nix does", () => {
  for (const storeHash of [TOP, LEAF, NOTE]) {
    const info = parseNarInfo(readNarInfo(storeHash));
    assert.equal(verifyNarInfo(info, [STRANGER, KEY]), 'fixture-1');
    assert.equal(signNarInfo(info, SECRET), info.signatures[0]);
    assertTrusted(info, [KEY], parseStoreHash(storeHash));
  }
});

test('derives the public key that Nix wrote for a secret key', () => {
  assert.equal(formatPublicKey(SECRET), PUBLIC_TEXT.trim());
  assert.equal(formatPublicKey(KEY), PUBLIC_TEXT.trim());
});

test('each signed field is covered', () => {
  const alterations: Partial<NarInfo>[] = [
    { storePath: parseStorePath(`/nix/store/${TOP}-other`) },
    { narHash: parseNarInfo(readNarInfo(LEAF)).narHash },
    { narSize: INFO.narSize + 1 },
    { references: INFO.references.slice(1) },
    { references: [] },
  ];
  for (const alteration of alterations) assert.equal(verifyNarInfo({ ...INFO, ...alteration }, [KEY]), undefined);
});

test('tries all keys with the name of the signature, and no others', () => {
  assert.equal(verifyNarInfo(INFO, [{ ...KEY, name: 'fixture-2' }]), undefined);
  assert.equal(verifyNarInfo(INFO, [NAMESAKE]), undefined);
  assert.equal(verifyNarInfo(INFO, [NAMESAKE, KEY]), 'fixture-1');
  assert.equal(verifyNarInfo(INFO, []), undefined);
});

test('skips malformed signatures', () => {
  const base64 = SIGNATURE.slice(SIGNATURE.indexOf(':') + 1);
  const malformed = ['', ':', 'fixture-1', 'fixture-1:', `:${base64}`, base64, `fixture-1:${base64.slice(4)}`];
  malformed.push(`fixture-1:${base64.slice(0, -4)}`, `fixture-1: ${base64}`);
  for (const signature of malformed)
    assert.equal(verifyNarInfo({ ...INFO, signatures: [signature] }, [KEY]), undefined);
  assert.equal(verifyNarInfo({ ...INFO, signatures: [...malformed, SIGNATURE] }, [KEY]), 'fixture-1');
  for (const asNix of [`fixture-1:${base64} `, `fixture-1:${base64.replaceAll('=', '')}`])
    assert.equal(verifyNarInfo({ ...INFO, signatures: [asNix] }, [KEY]), 'fixture-1', asNix);
});

test('a narinfo of another path is a mismatch, even with a valid signature', () => {
  assert.throws(
    () => assertTrusted(INFO, [KEY], parseStoreHash(LEAF)),
    failsWith(
      'NARINFO_MISMATCH',
      new RegExp(`asked for the narinfo of ${LEAF}, got the one of ${INFO.storePath.slice(0, 43)}`),
    ),
  );
});

test('says why a narinfo is not trusted', () => {
  const cases: readonly (readonly [signatures: readonly string[], message: RegExp])[] = [
    [[], /is not signed \(trusted keys: fixture-1; see --trusted-public-key\)/],
    [['x', 'fixture-1:AA=='], /has no well-formed signature/],
    [
      [SIGNATURE.replace('fixture-1', 'other-1')],
      /is signed only by keys not trusted here: "other-1" \(trusted keys: fix/,
    ],
    [[signNarInfo({ ...INFO, narSize: 1 }, SECRET)], /the signature of .* by "fixture-1" is wrong: .* altered/],
    [[signNarInfo({ ...INFO, narSize: 1 }, SECRET), 'x'], /is wrong/],
  ];
  for (const [signatures, message] of cases) {
    assert.throws(() => assertTrusted({ ...INFO, signatures }, [KEY]), failsWith('NARINFO_UNTRUSTED', message));
  }
  assert.throws(() => assertTrusted(INFO, []), failsWith('NARINFO_UNTRUSTED', /trusted keys: none/));
});

test('a content address counts as a signature if the path follows from it', () => {
  const note = { ...parseNarInfo(readNarInfo(NOTE)), signatures: [] };
  assert.match(note.ca ?? '', /^text:/);
  assertTrusted(note, []);
  assert.equal(verifyNarInfo(note, [KEY]), undefined);
  const altered = { ...note, storePath: parseStorePath(`${note.storePath}-2`) };
  const message = /is not signed, and it is not the path of its content address "text:/;
  assert.throws(() => assertTrusted(altered, [KEY]), failsWith('NARINFO_UNTRUSTED', message));
  assert.throws(
    () => assertTrusted({ ...note, ca: 'foo' }, [KEY]),
    failsWith('NARINFO_UNTRUSTED', /content address "foo"/),
  );
});

test('reads keys with the newline at the end of their files', () => {
  assert.equal(parsePublicKey(` ${PUBLIC_TEXT}\n`).key.equals(KEY.key), true);
  assert.equal(parseSecretKey(`${SECRET_TEXT}\n`).key.equals(SECRET.key), true);
});

test('refuses malformed keys', () => {
  const base64 = PUBLIC_TEXT.slice(PUBLIC_TEXT.indexOf(':') + 1);
  const malformed = ['', ':', 'name', 'name:', `:${base64}`, base64, `name:${base64.slice(4)}`, `name:${base64}AAAA`];
  malformed.push(`name:${base64.slice(0, -1)}`, `name:${base64.replace('=', '\n')}`, SECRET_TEXT);
  for (const text of malformed) {
    assert.throws(() => parsePublicKey(text), failsWith('KEY_INVALID', /base64 of 32 bytes/), text);
  }
  // Common mistakes instead of "$(cat lab.public)".
  assert.throws(
    () => parsePublicKey('lab.public'),
    failsWith('KEY_INVALID', /the public key "lab\.public" is malformed/),
  );
  assert.throws(() => parseSecretKey(PUBLIC_TEXT), failsWith('KEY_INVALID', /base64 of 64 bytes/));
});

test('refuses a secret key made of halves of two keys', () => {
  const bytes = Buffer.from(SECRET_TEXT.slice(SECRET_TEXT.indexOf(':') + 1), 'base64');
  bytes[63]! ^= 1;
  assert.throws(() => parseSecretKey(`damaged-1:${bytes.toString('base64')}`), failsWith('KEY_INVALID', /two keys/));
});

test('no message shows the text of a file that holds something else', () => {
  for (const text of ['password = "hush"\nurl: here', '{"hush":"a"}', 'a hush: b'])
    for (const parse of [parsePublicKey, parseSecretKey])
      assert.throws(
        () => parse(text),
        (error) => failsWith('KEY_INVALID')(error) && !String(error).includes('hush'),
      );
});

test('no message shows a secret key', () => {
  const base64 = SECRET_TEXT.slice(SECRET_TEXT.indexOf(':') + 1);
  for (const text of [SECRET_TEXT, base64, `x:${base64.slice(1)}`]) {
    for (const parse of [parsePublicKey, parseSecretKey]) {
      if (text === SECRET_TEXT && parse === parseSecretKey) continue;
      assert.throws(
        () => parse(text),
        (error) => failsWith('KEY_INVALID')(error) && !String(error).includes(base64.slice(1, 20)),
      );
    }
  }
});
