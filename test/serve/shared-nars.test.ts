/** Each test adds one reason for sharing, and the NAR of a trusted narinfo is shared. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildIndex, writeIndex } from '../index/built-index.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { formatPublicKey } from '../../src/nix/signature.ts';
import { chooseShareKeys, DEFAULT_SHARE_KEYS } from '../../src/serve/share-keys.ts';
import { SharedNars } from '../../src/serve/shared-nars.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { GOLDEN } from '../index/fixtures.ts';
import { LEAF, NOTE } from '../nix/fixtures.ts';
import { filledStore, infoOf, KEY } from '../store/store-fixture.ts';

interface Scene {
  readonly store: FileStore;
  /** The narinfo of a path that a trusted key has signed. */
  readonly signed: NarInfo;
  /** The narinfo of a path that is trusted by its content address alone. */
  readonly addressed: NarInfo;
  /** The shared NARs if the key of `signed` is trusted and not shared. */
  readonly shared: SharedNars;
}

async function scene(t: TestContext): Promise<Scene> {
  const store = await filledStore(t);
  const note = await infoOf(store, NOTE);
  return {
    store,
    signed: await infoOf(store, LEAF),
    addressed: { ...note, signatures: [] },
    shared: new SharedNars({ keys: [KEY], shareKeys: [], stateDir: store.stateDir }),
  };
}

test('does not share NARs of a key that is only trusted, nor a source that needs no signature', async (t) => {
  const { shared, signed, addressed } = await scene(t);
  for (const info of [signed, addressed]) {
    assert.equal(await shared.includes(info), false);
    assert.equal(await shared.includes(info, 'fetch'), false);
    assert.equal(await shared.includes(info, 'subscription'), false);
  }
});

test('shares NARs signed by a share-key', async (t) => {
  const { store, signed, addressed } = await scene(t);
  const shared = new SharedNars({ keys: [KEY], shareKeys: [KEY], stateDir: store.stateDir });
  assert.equal(await shared.includes(signed), true);
  assert.equal(await shared.includes({ ...signed, narSize: signed.narSize + 1 }), false);
  assert.equal(await shared.includes(addressed), false);
});

test('shares trusted NARs that this machine has added or published', async (t) => {
  const { shared, signed, addressed } = await scene(t);
  for (const info of [signed, addressed])
    for (const askedBy of ['add', 'publish'] as const) {
      assert.equal(await shared.includes(info, askedBy), true);
      assert.equal(await shared.includes({ ...info, signatures: [], ca: undefined } as never, askedBy), false);
    }
});

for (const folder of ['index', 'published']) {
  test(`shares NARs listed by a hash map in ${folder}, with the listed contents, as soon as it is there`, async (t) => {
    const { store, shared, signed, addressed } = await scene(t);
    const lists = new SharedNars({ keys: [KEY], shareKeys: [], stateDir: store.stateDir });
    const dir = new IndexDir(join(store.stateDir, folder, 'map'));
    await writeIndex(dir, await buildIndex(GOLDEN));
    for (const info of [signed, addressed]) {
      assert.equal(await lists.includes(info), true);
      assert.equal(await lists.includes({ ...info, narHash: '0'.repeat(52) as NarInfo['narHash'] }), false);
    }
    assert.equal(await shared.includes(signed), true);
  });
}

test('a verdict by a hash map holds until nobody follows it any longer, other verdicts for good', async (t) => {
  const { store, shared, signed, addressed } = await scene(t);
  const listing = ({ storePath }: NarInfo): ReturnType<typeof buildIndex> =>
    buildIndex({ ...GOLDEN, records: GOLDEN.records.filter((record) => record.storePath === storePath) });
  const dir = new IndexDir(join(store.stateDir, 'index', 'map'));
  await writeIndex(dir, await listing(signed));
  const byMap = await shared.judge(signed);
  const byOrigin = await shared.judge(signed, 'add');
  assert.deepEqual([byMap.isShared, shared.stillHolds(byMap)], [true, true]);
  assert.equal(await shared.includes(signed), true);
  await dir.setFollowed(false);
  await writeIndex(new IndexDir(join(store.stateDir, 'index', 'other')), await listing(addressed));
  while (!(await shared.includes(addressed))) await sleep(20); // the folders were looked at again
  assert.equal(await shared.includes(signed), false);
  assert.equal(shared.stillHolds(byMap), false);
  assert.equal(shared.stillHolds(byOrigin), true);
  await dir.setFollowed(true);
  while (!(await shared.includes(signed))) await sleep(20);
});

test('a hash map without the NAR, or with a wrong signature, shares nothing', async (t) => {
  const { store, shared, signed } = await scene(t);
  const others = await buildIndex({
    ...GOLDEN,
    records: GOLDEN.records.filter(({ storePath }) => storePath !== signed.storePath),
  });
  await writeIndex(new IndexDir(join(store.stateDir, 'index', 'other')), others);
  const forged = await buildIndex(GOLDEN);
  const manifest = Buffer.from(forged.manifest);
  manifest.write('9', manifest.indexOf('Seq: ') + 5);
  await writeIndex(new IndexDir(join(store.stateDir, 'index', 'forged')), { ...forged, manifest });
  assert.equal(await shared.includes(signed), false);
});

test('chooses share-keys by name or as whole keys, among the trusted ones', () => {
  const stranger = { name: KEY.name, key: generateKeyPairSync('ed25519').publicKey };
  const nixos = { name: DEFAULT_SHARE_KEYS[0] ?? '', key: generateKeyPairSync('ed25519').publicKey };
  const trusted = [KEY, stranger, nixos];
  assert.deepEqual(chooseShareKeys(trusted, DEFAULT_SHARE_KEYS), { keys: [nixos], unknown: [] });
  assert.deepEqual(chooseShareKeys(trusted, [KEY.name]), { keys: [KEY, stranger], unknown: [] });
  assert.deepEqual(chooseShareKeys(trusted, [formatPublicKey(KEY)]), { keys: [KEY], unknown: [] });
  assert.deepEqual(chooseShareKeys([KEY], ['other-1', formatPublicKey(stranger)]), {
    keys: [],
    unknown: ['other-1', formatPublicKey(stranger)],
  });
});
