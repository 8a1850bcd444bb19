import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { parsePublicKey, verifyNarInfo, verifyNarInfoAside } from '../../src/nix/signature.ts';
import { admitNarInfo } from '../../src/nix/sound-remarks.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { failsWith, LEAF, NOTE, readFixture, readNarInfo, TOP } from './fixtures.ts';

const KEYS = [parsePublicKey(readFixture('fixture-1.public'))];
const INFO = parseNarInfo(readNarInfo(TOP));
const ADDRESSED = parseNarInfo(readNarInfo(NOTE));
const [OTHERS = ''] = parseNarInfo(readNarInfo(LEAF)).signatures;
const foreign = (name: string): string => OTHERS.replace(/^[^:]*/, name);

test('keeps a narinfo as it is if its remarks are sound', () => {
  for (const info of [INFO, ADDRESSED, { ...INFO, signatures: [...INFO.signatures, foreign('other-1')] }])
    assert.equal(admitNarInfo(info, KEYS, parseStoreHash(info.storePath.slice(11, 43))), info);
});

test('drops wrong remarks one by one', () => {
  const { ca, ...note } = ADDRESSED;
  for (const wrong of ['foo', '', `text:sha256:${'0'.repeat(52)}`, ca?.replace('text', 'fixed:r') ?? ''])
    assert.deepEqual(admitNarInfo({ ...note, ca: wrong }, KEYS), note, wrong);
  assert.deepEqual(admitNarInfo({ ...INFO, ca: ca ?? '' }, KEYS), INFO, 'the content address of another path');

  const garbage = ['garbage', 'x:', ':AA==', 'a:b', OTHERS, `${INFO.signatures[0]}=`, INFO.signatures[0] ?? ''];
  assert.deepEqual(admitNarInfo({ ...INFO, signatures: [...garbage, foreign('other-1')] }, KEYS), {
    ...INFO,
    signatures: [...INFO.signatures, foreign('other-1')],
  });
  const many = Array.from({ length: 10_000 }, (_, index) => foreign(`other-${index}`));
  const kept = admitNarInfo({ ...INFO, signatures: [...many, ...INFO.signatures] }, KEYS).signatures;
  assert.deepEqual([kept.length, kept.at(-1)], [17, INFO.signatures[0]]);

  const extra = [
    ['System', 'x'],
    ['InfoHash', 'a'],
    ['Nar', 'absent'],
    ['Pieces', 'b'],
  ] as const;
  assert.deepEqual(admitNarInfo({ ...INFO, extra }, KEYS), { ...INFO, extra: [extra[1], extra[3]] });
});

test('refuses a narinfo without a signature or a content address that proves its path', () => {
  const path = parseStoreHash(TOP);
  assert.throws(() => admitNarInfo({ ...INFO, narSize: 1 }, KEYS, path), failsWith('NARINFO_UNTRUSTED', /altered/));
  assert.throws(() => admitNarInfo({ ...INFO, ca: 'foo' }, [], path), failsWith('NARINFO_UNTRUSTED'));
  assert.throws(() => admitNarInfo(INFO, KEYS, parseStoreHash(LEAF)), failsWith('NARINFO_MISMATCH'));
  assert.deepEqual(admitNarInfo({ ...ADDRESSED, signatures: [] }, []), { ...ADDRESSED, signatures: [] });
});

test('a signature that was verified is not verified again, and no other counts', async () => {
  const key = parsePublicKey(readFixture('fixture-1.public'));
  // verifies nothing by itself, and remembers the same result
  const memory = { ...key, key: generateKeyPairSync('ed25519').publicKey };
  const verified = async (info: typeof INFO): Promise<(string | undefined)[]> => [
    verifyNarInfo(info, [memory]),
    await verifyNarInfoAside(info, [memory]),
  ];
  const altered = { ...INFO, narSize: INFO.narSize + 1 };
  assert.deepEqual(await verified(INFO), [undefined, undefined]);
  admitNarInfo(altered, [key], undefined, false);
  const admitted = [
    admitNarInfo(INFO, [key]),
    admitNarInfo({ ...INFO, extra: [['System', 'x']] }, [key]), // a remark is dropped
  ];
  for (const info of admitted) assert.deepEqual(await verified(info), [key.name, key.name]);
  for (const info of [altered, { ...INFO }, ADDRESSED]) assert.deepEqual(await verified(info), [undefined, undefined]);
});
