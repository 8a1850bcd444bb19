/** Reads the files of an edition of a hash map from a member, checked, before its torrent is opened. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { fileHashOf } from '../../../src/nix/hash.ts';
import type { InfoHash } from '../../../src/nix/brands.ts';
import { manifestName, MemberFiles } from '../../../src/index/files/member-files.ts';
import { GROUP, madeFile, startMember, type MadeMember } from '../../exchange/exchange-fixture.ts';

const INFO_HASH = '12'.repeat(20) as InfoHash;
const OTHER_GROUP = 'ef'.repeat(20) as InfoHash;
const SHARD = madeFile(300_000);
const { signal } = new AbortController();

interface Scene {
  readonly giver: MadeMember;
  readonly files: MemberFiles;
}

/** A member that holds an edition, and one that asks it. */
async function scene(t: TestContext, { isNear = true, of = GROUP } = {}): Promise<Scene> {
  const giver = await startMember({ files: [SHARD] });
  t.after(() => giver[Symbol.asyncDispose]());
  giver.offer.narInfos.set(manifestName(INFO_HASH), 'the manifest');
  const asker = await startMember({ isNear });
  t.after(() => asker[Symbol.asyncDispose]());
  const met = once(asker.members, 'member');
  asker.meet(giver);
  await met;
  const isManifest = (bytes: Uint8Array): boolean => Buffer.from(bytes).toString() === 'the manifest';
  return { giver, files: new MemberFiles(asker.members, { group: of, infoHash: INFO_HASH, isManifest }) };
}

test('a member gives the manifest and the shards of an edition', async (t) => {
  const { files } = await scene(t);
  assert.equal(String(await files.manifest(signal)), 'the manifest');
  assert.deepEqual(await files.shard(SHARD.file, SHARD.bytes.length, signal), SHARD.bytes);
});

test('a manifest that is not the one is refused, and nobody is asked again', async (t) => {
  const { giver, files } = await scene(t);
  giver.offer.narInfos.set(manifestName(INFO_HASH), 'another manifest');
  assert.equal(await files.manifest(signal), undefined);
  assert.equal(await files.shard(SHARD.file, SHARD.bytes.length, signal), undefined);
  assert.equal(giver.offer.asked.length, 0);
});

test('a shard with another SHA-256 is refused', async (t) => {
  const { giver, files } = await scene(t);
  giver.offer.lies = true;
  assert.equal(await files.shard(SHARD.file, SHARD.bytes.length, signal), undefined);
});

test('a member without the file is not asked again', async (t) => {
  const { giver, files } = await scene(t);
  const absent = fileHashOf(hash('sha256', 'absent', 'buffer'));
  assert.equal(await files.shard(absent, 10, signal), undefined);
  assert.equal(await files.shard(SHARD.file, SHARD.bytes.length, signal), undefined);
  assert.equal(giver.offer.asked.length, 1);
});

test('a member beyond the local network hears of no hash map but that of its group', async (t) => {
  const beyond = await scene(t, { isNear: false, of: OTHER_GROUP });
  assert.equal(await beyond.files.manifest(signal), undefined);
  const ofGroup = await scene(t, { isNear: false });
  assert.equal(String(await ofGroup.files.manifest(signal)), 'the manifest');
});

test('of an edition that a member has named, only this member is asked', async (t) => {
  const giver = await startMember({ files: [SHARD] });
  t.after(() => giver[Symbol.asyncDispose]());
  const teller = await startMember();
  t.after(() => teller[Symbol.asyncDispose]());
  const asker = await startMember();
  t.after(() => asker[Symbol.asyncDispose]());
  asker.meet(giver); // the first one, which is asked otherwise
  await once(asker.members, 'member');
  const record = asker.meet(teller);
  await once(asker.members, 'member');
  const files = new MemberFiles(asker.members, {
    group: GROUP,
    infoHash: INFO_HASH,
    isManifest: () => true,
    teller: record,
  });
  const given = await files.shard(SHARD.file, SHARD.bytes.length, signal);
  assert.equal(given?.length, undefined);
  assert.deepEqual([giver.offer.asked.length, teller.offer.asked.length], [0, 1]);
});

test('without a member there is nobody to ask', async (t) => {
  const alone = await startMember();
  t.after(() => alone[Symbol.asyncDispose]());
  const files = new MemberFiles(alone.members, { group: GROUP, infoHash: INFO_HASH, isManifest: () => true });
  assert.equal(await files.manifest(signal), undefined);
});
